SELECT payment_id, brand, order_id, amount, currency, payment_key, state, refunded, code, asks, created_at, concluded_at
FROM payments
WHERE payment_id = $1
