-- What a session says of itself: whose process it is, how it was marked, whether what it commits is durable.
SELECT pg_backend_pid()::text, coalesce(current_setting('bridge.session', true), ''),
       current_setting('fsync'), current_setting('synchronous_commit')
