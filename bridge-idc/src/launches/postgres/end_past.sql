-- Ends the launches whose ends_at has passed, of all brands. So their SKUs leave the index that
-- batches of orders use. $1 is the time, $2 the most launches. A launch that another session holds is
-- left for the next time.
UPDATE launches SET ended_at = ends_at
WHERE launch_id IN (
    SELECT past.launch_id
    FROM launches AS past
    WHERE past.ended_at IS NULL AND past.ends_at <= $1
    LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
)
