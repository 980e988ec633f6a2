-- Ends the launches whose ends_at has passed, of all brands. $1 is the time, $2 the most launches.
UPDATE launches SET ended_at = ends_at
WHERE launch_id IN (SELECT launch_id FROM launches WHERE ended_at IS NULL AND ends_at <= $1 LIMIT $2)
