-- Takes at most $3 payments that are due by $1. Until $2 no other agent takes them. Rows that
-- another agent is taking are skipped.
UPDATE payments SET next_ask_at = $2, asks = asks + 1
WHERE payment_id IN (
    SELECT payment_id
    FROM payments
    WHERE next_ask_at <= $1
    ORDER BY next_ask_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
RETURNING
    payment_id, brand, order_id, amount, currency, payment_key, state, refunded, code, asks, created_at, concluded_at,
    confirm_until, (SELECT orders.state FROM orders WHERE orders.order_id = payments.order_id)
