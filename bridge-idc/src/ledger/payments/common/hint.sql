-- Somebody says that the gateway knows more about this order's payment ($1): it is asked at $2. Of one that was given up as
-- well: it may have been charged after all. What an agent has only begun is being asked for.
UPDATE payments SET next_ask_at = $2
WHERE order_id = $1 AND (next_ask_at IS NULL OR next_ask_at > $2)
    AND (state IN ('unknown', 'declined', 'not_paid') OR (state = 'confirming' AND asks > 0))
