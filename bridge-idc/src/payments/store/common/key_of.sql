-- The key that a payment ($1) was asked for under, or one of its refunds ($2).
SELECT key FROM payment_requests WHERE payment_id = $1 AND refund_id IS NOT DISTINCT FROM $2
