-- Deletes old changes of the log: $1 number of changes to keep, $2 longest age in microseconds, $3
-- most rows to check.
SELECT catalogue_forget($1, $2, $3)
