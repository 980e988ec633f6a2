-- Returns the key of the request for a payment ($1) or for one of its refunds ($2).
SELECT key FROM payment_requests WHERE payment_id = $1 AND refund_id IS NOT DISTINCT FROM $2
