-- Returns the units of orders that stand which customers ($2) have from launches ($1), as pairs. The
-- launches are locked, so no other writer changes these rows.
SELECT bought.launch_id, bought.customer, bought.sku_id, bought.units
FROM UNNEST($1::bigint[], $2::bytea[]) AS wanted (launch_id, customer)
JOIN launch_purchases AS bought
    ON bought.launch_id = wanted.launch_id AND bought.customer = wanted.customer AND bought.given_back_at IS NULL
