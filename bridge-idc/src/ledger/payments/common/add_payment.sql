INSERT INTO payments (payment_id, brand, order_id, amount, currency, payment_key, state, next_ask_at, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
