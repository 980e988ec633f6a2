-- Returns the clock of the database's machine in microseconds since 1970-01-01T00:00:00Z.
SELECT CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)
