-- Makes a payment of unknown outcome of this order ($1) due at $2, unless it is due earlier. A
-- payment whose first request may still be on its way is left as it is.
UPDATE payments SET next_ask_at = $2
WHERE order_id = $1 AND next_ask_at > $2 AND (state = 'unknown' OR (state = 'confirming' AND asks > 0))
