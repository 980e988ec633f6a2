-- Returns the database's clock, which all agents share, in microseconds since 1970-01-01T00:00:00Z.
SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)
