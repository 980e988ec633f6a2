UPDATE launches SET ended_at = $2 WHERE launch_id = $1 AND ended_at IS NULL
