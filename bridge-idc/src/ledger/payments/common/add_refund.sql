INSERT INTO refunds (refund_id, payment_id, amount, reason, automatic, state, next_ask_at, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
