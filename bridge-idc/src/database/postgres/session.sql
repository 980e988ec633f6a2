-- Selects the identity and the durability of a session: its process, the mark that was set in it,
-- fsync and synchronous_commit.
SELECT pg_backend_pid()::text, coalesce(current_setting('bridge.session', true), ''),
       current_setting('fsync'), current_setting('synchronous_commit')
