-- $7: when it is asked for; $9: until when the gateway is being asked to give back, 0 if nobody has asked it.
INSERT INTO refunds (refund_id, payment_id, amount, reason, automatic, state, next_ask_at, created_at, give_back_until)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
