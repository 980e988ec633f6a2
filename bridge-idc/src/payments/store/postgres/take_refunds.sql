-- Takes at most $3 refunds that are due by $1. Until $2 no other agent takes them, and a request
-- for each may be on its way. Rows that another agent is taking are skipped.
UPDATE refunds SET next_ask_at = $2, give_back_until = greatest(give_back_until, $2), asks = asks + 1
WHERE refund_id IN (
    SELECT refund_id
    FROM refunds
    WHERE next_ask_at <= $1
    ORDER BY next_ask_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
RETURNING refund_id, payment_id, amount, reason, automatic, state, code, asks, created_at, give_back_until, concluded_at
