-- Notes that a request to charge once more may be on its way to the gateway until $2.
UPDATE payments SET confirm_until = $2, next_ask_at = $2 WHERE payment_id = $1
