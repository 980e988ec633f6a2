-- The gateway is asked to charge once more: until $2 that request may be on its way.
UPDATE payments SET confirm_until = $2, next_ask_at = $2 WHERE payment_id = $1
