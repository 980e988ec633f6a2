-- Takes the payments that were given up and are to be looked at by $1, $3 of them, until $2. Rows that another agent holds
-- are that agent's; what has a next_ask_at is taken by that.
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
