-- Inserts a request. If another agent used the key in the meantime, no row is inserted, and the
-- transaction is tried again.
INSERT INTO payment_requests (key, fingerprint, payment_id, refund_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
