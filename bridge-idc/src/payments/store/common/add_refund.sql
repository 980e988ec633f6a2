-- Inserts a refund. $7 is the time when it is due. $9 is the time until which a request to refund
-- may be on its way, 0 if none was sent.
INSERT INTO refunds (refund_id, payment_id, amount, reason, automatic, state, next_ask_at, created_at, give_back_until)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
