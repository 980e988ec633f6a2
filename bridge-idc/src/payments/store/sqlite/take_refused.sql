-- Takes at most $3 refunds that were refused and are due for a look by $1. Until $2 no other agent
-- takes them. SQLite has one writer, so there is nothing to lock.
UPDATE refunds SET look_at = $2
WHERE refund_id IN (
    SELECT refund_id
    FROM refunds
    WHERE look_at <= $1 AND state = 'refused'
    ORDER BY look_at
    LIMIT $3
)
RETURNING refund_id, payment_id, amount, reason, automatic, state, code, asks, created_at, give_back_until, concluded_at
