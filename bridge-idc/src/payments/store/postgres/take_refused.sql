-- Takes the refunds that were refused and are to be looked at by $1, $3 of them, until $2. Rows that another agent holds are that
-- agent's.
UPDATE refunds SET look_at = $2
WHERE refund_id IN (
    SELECT refund_id
    FROM refunds
    WHERE look_at <= $1 AND state = 'refused'
    ORDER BY look_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
RETURNING refund_id, payment_id, amount, reason, automatic, state, code, asks, created_at, give_back_until, concluded_at
