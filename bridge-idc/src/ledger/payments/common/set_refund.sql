-- What a refund comes to: $2 state, $3 code, $4 when to ask next, $5 when it ended.
UPDATE refunds SET state = $2, code = $3, next_ask_at = $4, concluded_at = $5 WHERE refund_id = $1
