-- Writes a payment: $2 state, $3 refunded amount, $4 code, $5 time of the next query, $6 time when
-- its outcome became known, $7 time until which a request to charge may be on its way, $8 time of
-- the next look if it was given up.
UPDATE payments
SET state = $2, refunded = $3, code = coalesce($4, code), next_ask_at = $5, concluded_at = coalesce(concluded_at, $6),
    confirm_until = $7, look_at = $8
WHERE payment_id = $1
