-- Wakes the agent that holds the lease. The commit does not wait for fsync, because it stores
-- nothing.
SELECT set_config('synchronous_commit', 'off', true), pg_notify('bridge_catalogue_pending', '')
