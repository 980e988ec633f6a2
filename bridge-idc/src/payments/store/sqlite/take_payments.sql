-- Takes the payments that are due by $1, $3 of them, for as long as asking takes: until $2 nobody else takes them.
-- SQLite has one writer, who takes them alone.
UPDATE payments SET next_ask_at = $2, asks = asks + 1
WHERE payment_id IN (
    SELECT payment_id
    FROM payments
    WHERE next_ask_at <= $1
    ORDER BY next_ask_at
    LIMIT $3
)
RETURNING
    payment_id, brand, order_id, amount, currency, payment_key, state, refunded, code, asks, created_at, concluded_at,
    confirm_until, (SELECT orders.state FROM orders WHERE orders.order_id = payments.order_id)
