-- Returns the earlier use of a key. It runs under the order's lock.
SELECT fingerprint, payment_id, refund_id FROM payment_requests WHERE key = $1
