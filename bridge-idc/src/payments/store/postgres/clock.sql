-- The database's clock, which is the one clock of all agents: microseconds since 1970-01-01T00:00:00Z.
SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)
