-- Which of the tables that an import needs somebody has locked as a whole, and who that is: the table $1, or, if that is NULL, the one that
-- is locked most strictly. Who only waits for such a lock keeps all others waiting who come after.
SELECT class.relname::text, activity.pid, coalesce(activity.usename::text, ''), coalesce(activity.application_name, '')
FROM pg_locks AS held
JOIN pg_class AS class ON class.oid = held.relation
JOIN pg_stat_activity AS activity ON activity.pid = held.pid
WHERE held.locktype = 'relation' AND held.pid <> pg_backend_pid()
    AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    -- Those that a read or a write of a row waits for.
    AND held.mode IN ('AccessExclusiveLock', 'ExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock')
    AND class.oid IN (
        SELECT to_regclass(named.name)::oid
        FROM unnest(ARRAY['brands', 'skus', 'stock', 'categories', 'products', 'product_categories', 'catalogue_changes',
            'catalogue_pending', 'catalogue_sequencer']) AS named (name)
    )
    AND ($1::text IS NULL OR class.relname = $1)
-- The modes by chance in the order of the alphabet.
ORDER BY held.granted DESC, held.mode, class.relname
LIMIT 1
