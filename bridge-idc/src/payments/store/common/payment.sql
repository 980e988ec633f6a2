SELECT
    payment_id, brand, order_id, amount, currency, payment_key, state, refunded, code, asks, created_at, concluded_at,
    confirm_until
FROM payments
WHERE payment_id = $1
