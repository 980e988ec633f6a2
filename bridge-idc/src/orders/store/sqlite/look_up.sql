-- Looks orders up. $1 has a row for each question: its brand, the order, and the key under which it
-- was placed, or null. A key takes precedence over the order. CROSS JOIN makes SQLite handle one
-- question at a time, so that each uses an index.
SELECT
    asked.key + 1, outcomes.order_id, coalesce(orders.state, outcomes.outcome), outcomes.position, outcomes.committed_at,
    orders.customer_reference, orders.currency, orders.shipping_fee, orders.total
FROM json_each($1) AS asked
CROSS JOIN outcomes ON outcomes.operation = 'place'
    AND outcomes.brand = asked.value ->> 0
    AND outcomes.order_id = coalesce(
        (SELECT known.order_id FROM outcomes AS known WHERE known.key = unhex(asked.value ->> 2)),
        unhex(asked.value ->> 1)
    )
LEFT JOIN orders ON orders.order_id = outcomes.order_id
