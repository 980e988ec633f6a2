-- Returns the units of orders that stand which customers have from launches, as pairs of launch and
-- customer ($1).
SELECT bought.launch_id, bought.customer, bought.sku_id, bought.units
FROM json_each($1) AS wanted
CROSS JOIN launch_purchases AS bought
    ON bought.launch_id = wanted.value ->> 0 AND bought.customer = unhex(wanted.value ->> 1)
    AND bought.given_back_at IS NULL
