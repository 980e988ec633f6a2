-- The session that keeps a process ($1) waiting, with the table that the process waits for, if it is
-- a table.
SELECT class.relname::text, activity.pid, coalesce(activity.usename::text, ''), coalesce(activity.application_name, '')
FROM UNNEST(pg_blocking_pids($1)) AS blocking (pid)
JOIN pg_stat_activity AS activity ON activity.pid = blocking.pid
LEFT JOIN pg_locks AS wanted ON wanted.pid = $1 AND NOT wanted.granted AND wanted.locktype = 'relation'
LEFT JOIN pg_class AS class ON class.oid = wanted.relation
ORDER BY activity.xact_start
LIMIT 1
