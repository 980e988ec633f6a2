-- Returns the units of orders that stand which customers ($2) have from launches ($1), as pairs. The
-- launches are locked, so no other writer changes these rows. LATERAL handles one customer at a
-- time, so that each uses the index, also before the table was analysed for the first time.
SELECT bought.launch_id, bought.customer, bought.sku_id, bought.units
FROM UNNEST($1::bigint[], $2::bytea[]) AS wanted (launch_id, customer)
CROSS JOIN LATERAL (
    SELECT own.launch_id, own.customer, own.sku_id, own.units
    FROM launch_purchases AS own
    WHERE own.launch_id = wanted.launch_id AND own.customer = wanted.customer AND own.given_back_at IS NULL
    OFFSET 0
) AS bought
