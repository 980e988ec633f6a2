SELECT refund_id, payment_id, amount, reason, automatic, state, code, asks, created_at, give_back_until, concluded_at
FROM refunds
WHERE payment_id = $1
ORDER BY created_at, refund_id
