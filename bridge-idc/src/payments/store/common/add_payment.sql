-- Inserts a payment. Until $8 the request to charge may be on its way. If no outcome is written by
-- then, the payment is due.
INSERT INTO payments
    (payment_id, brand, order_id, amount, currency, payment_key, state, next_ask_at, created_at, confirm_until)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $8)
