-- Takes at most $3 payments that were given up and are due for a look by $1. Until $2 no other
-- agent takes them. Rows that another agent is taking are skipped. A row with a next_ask_at is left
-- to take_payments.sql.
UPDATE payments SET look_at = $2, asks = asks + 1
WHERE payment_id IN (
    SELECT payment_id
    FROM payments
    WHERE look_at <= $1 AND state IN ('declined', 'not_paid') AND next_ask_at IS NULL
    ORDER BY look_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
RETURNING
    payment_id, brand, order_id, amount, currency, payment_key, state, refunded, code, asks, created_at, concluded_at,
    confirm_until, (SELECT orders.state FROM orders WHERE orders.order_id = payments.order_id)
