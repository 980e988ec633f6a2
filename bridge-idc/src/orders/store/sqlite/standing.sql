-- Returns the state of these orders.
SELECT outcomes.order_id, outcomes.brand, coalesce(orders.state, 'rejected')
FROM outcomes
LEFT JOIN orders ON orders.order_id = outcomes.order_id
WHERE outcomes.operation = 'place' AND outcomes.order_id IN (SELECT unhex(value) FROM json_each($1))
