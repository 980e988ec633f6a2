-- Returns a payment by $1 brand, $2 order, $3 payment, and $4 the key of its request, or null. A
-- key takes precedence over the payment.
SELECT
    payment_id, brand, order_id, amount, currency, payment_key, state, refunded, code, asks, created_at, concluded_at,
    confirm_until
FROM payments
WHERE brand = $1 AND order_id = $2
    AND payment_id = coalesce((SELECT payment_id FROM payment_requests WHERE key = $4), $3)
