-- Outcomes by their keys, a batch at a time: after $1, up to $2, at most $3; with how their orders stand.
SELECT
    outcomes.key, outcomes.brand, outcomes.order_id, outcomes.outcome, outcomes.position, outcomes.committed_at,
    orders.state
FROM outcomes
LEFT JOIN orders ON orders.order_id = outcomes.order_id
WHERE outcomes.key > $1 AND outcomes.key <= $2
ORDER BY outcomes.key
LIMIT $3
