-- The clock of the machine that the database is on: microseconds since 1970-01-01T00:00:00Z.
SELECT CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)
