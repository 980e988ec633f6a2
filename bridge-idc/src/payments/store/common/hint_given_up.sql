-- Makes a given-up payment of an order ($1) due for a look at $2. Only an agent of version 5 sets
-- next_ask_at in such a row.
UPDATE payments SET look_at = $2, next_ask_at = NULL
WHERE order_id = $1 AND (look_at IS NULL OR look_at > $2) AND state IN ('declined', 'not_paid')
