-- Wakes the agent that holds the lease. Not waited for by fsync: there is nothing to keep.
SELECT set_config('synchronous_commit', 'off', true), pg_notify('bridge_catalogue_pending', '')
