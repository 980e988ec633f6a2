-- What a key was used for. Read behind the order's lock.
SELECT fingerprint, payment_id, refund_id FROM payment_requests WHERE key = $1
