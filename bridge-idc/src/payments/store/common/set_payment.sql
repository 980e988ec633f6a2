-- What a payment comes to: $2 state, $3 refunded, $4 code, $5 when to ask next, $6 when it ended, $7 until when a request to
-- charge may be on its way, $8 when to look again at what was given up.
UPDATE payments
SET state = $2, refunded = $3, code = coalesce($4, code), next_ask_at = $5, concluded_at = coalesce(concluded_at, $6),
    confirm_until = $7, look_at = $8
WHERE payment_id = $1
