-- Looks orders up. Each question has a brand ($1), an order ($2), and the key under which it was
-- placed, or null ($3). A key takes precedence over the order. LATERAL handles one question at a
-- time, so that each uses an index, whatever the sizes of the tables.
SELECT
    asked.question, found.order_id, coalesce(orders.state, found.outcome), found.position, found.committed_at,
    orders.customer_reference, orders.currency, orders.shipping_fee, orders.total
FROM unnest($1::text[], $2::uuid[], $3::bytea[]) WITH ORDINALITY AS asked (brand, order_id, key, question)
CROSS JOIN LATERAL (
    SELECT outcomes.order_id, outcomes.outcome, outcomes.position, outcomes.committed_at
    FROM outcomes
    WHERE outcomes.operation = 'place'
        AND outcomes.brand = asked.brand
        AND outcomes.order_id = coalesce((SELECT known.order_id FROM outcomes AS known WHERE known.key = asked.key), asked.order_id)
    LIMIT 1
) AS found
LEFT JOIN orders ON orders.order_id = found.order_id
