-- What a refund comes to: $2 state, $3 code, $4 when to ask next, $5 when it ended, $7 when to look again at what was refused. $6 is the give_back_until that this was decided
-- by: an agent takes a refund without its order's lock, and if one has since, no row is written and the transaction is tried again.
UPDATE refunds SET state = $2, code = $3, next_ask_at = $4, concluded_at = $5, look_at = $7
WHERE refund_id = $1 AND give_back_until = $6
