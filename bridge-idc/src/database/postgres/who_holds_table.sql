-- A table that an import needs and another session has locked, with that session. $1 is the table's
-- name; if it is NULL, the table with the strictest lock. A session that only waits for such a lock
-- counts as well, because all later sessions wait behind it.
SELECT class.relname::text, activity.pid, coalesce(activity.usename::text, ''), coalesce(activity.application_name, '')
FROM pg_locks AS held
JOIN pg_class AS class ON class.oid = held.relation
JOIN pg_stat_activity AS activity ON activity.pid = held.pid
WHERE held.locktype = 'relation' AND held.pid <> pg_backend_pid()
    AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    -- Lock modes that make a read or a write of a row wait.
    AND held.mode IN ('AccessExclusiveLock', 'ExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock')
    AND class.oid IN (
        SELECT to_regclass(named.name)::oid
        FROM unnest(ARRAY['brands', 'skus', 'stock', 'categories', 'products', 'product_categories', 'catalogue_changes',
            'catalogue_pending', 'catalogue_sequencer']) AS named (name)
    )
    AND ($1::text IS NULL OR class.relname = $1)
-- The alphabetical order of the modes puts the strictest lock first.
ORDER BY held.granted DESC, held.mode, class.relname
LIMIT 1
