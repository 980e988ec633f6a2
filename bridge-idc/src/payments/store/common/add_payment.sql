-- $8: until when the gateway is being asked to charge, and when it is asked about if nobody has concluded it before.
INSERT INTO payments
    (payment_id, brand, order_id, amount, currency, payment_key, state, next_ask_at, created_at, confirm_until)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $8)
