-- Returns outcomes with the states of their orders, in the order of keys: after $1, up to $2, at
-- most $3 rows.
SELECT
    outcomes.key, outcomes.brand, outcomes.order_id, outcomes.outcome, outcomes.position, outcomes.committed_at,
    orders.state
FROM outcomes
LEFT JOIN orders ON orders.order_id = outcomes.order_id
WHERE outcomes.key > $1 AND outcomes.key <= $2
ORDER BY outcomes.key
LIMIT $3
