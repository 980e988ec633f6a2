-- Somebody says that the gateway knows more about this order's payment ($1): it is asked at $2.
UPDATE payments SET next_ask_at = $2
WHERE order_id = $1 AND state IN ('confirming', 'unknown') AND next_ask_at > $2
    AND (state = 'unknown' OR asks > 0)
