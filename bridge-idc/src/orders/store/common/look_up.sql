-- How an order stands: $1 brand, $2 order, $3 the key that it was placed under, or null. The key decides.
SELECT
    outcomes.order_id, coalesce(orders.state, outcomes.outcome), outcomes.position, outcomes.committed_at,
    orders.customer_reference, orders.currency, orders.shipping_fee, orders.total
FROM outcomes
LEFT JOIN orders ON orders.order_id = outcomes.order_id
WHERE outcomes.operation = 'place'
    AND outcomes.brand = $1
    AND outcomes.order_id = coalesce((SELECT order_id FROM outcomes WHERE key = $3), $2)
