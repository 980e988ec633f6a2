-- Somebody says that the gateway knows more about this order's payment in doubt ($1): it is asked about at $2, unless that is
-- sooner already. What an agent has only begun is being asked for.
UPDATE payments SET next_ask_at = $2
WHERE order_id = $1 AND next_ask_at > $2 AND (state = 'unknown' OR (state = 'confirming' AND asks > 0))
