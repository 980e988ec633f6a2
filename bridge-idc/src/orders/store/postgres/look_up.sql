-- How orders stand: of each question $1 its brand, $2 the order, $3 the key that it was placed under, or null. The key decides.
-- A question at a time, so that each goes by an index, whatever the tables' sizes.
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
