-- Writes a refund: $2 state, $3 code, $4 time of the next request, $5 time when its outcome became
-- known, $7 time of the next look if it was refused. $6 is the give_back_until that was read when
-- the outcome was decided. Agents take refunds without the order's lock. If one has taken this
-- refund since, no row is written, and the transaction is tried again.
UPDATE refunds SET state = $2, code = $3, next_ask_at = $4, concluded_at = $5, look_at = $7
WHERE refund_id = $1 AND give_back_until = $6
