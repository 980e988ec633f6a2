-- A key that is there already was used by another agent meanwhile: no row, and the transaction is tried again.
INSERT INTO payment_requests (key, fingerprint, payment_id, refund_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
