-- As hint.sql, about one that was given up ($1): it is looked at at $2. A next_ask_at there is of an agent of version 5.
UPDATE payments SET look_at = $2, next_ask_at = NULL
WHERE order_id = $1 AND (look_at IS NULL OR look_at > $2) AND state IN ('declined', 'not_paid')
