SELECT CAST(coalesce(max(version), 0) AS bigint) FROM schema_migrations WHERE success
