-- Returns the state of these orders. The stock of every placed one is locked by now, so no other
-- agent is cancelling it.
SELECT outcomes.order_id, outcomes.brand, coalesce(orders.state, 'rejected')
FROM outcomes
LEFT JOIN orders ON orders.order_id = outcomes.order_id
WHERE outcomes.operation = 'place' AND outcomes.order_id = ANY($1)
