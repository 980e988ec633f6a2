-- $1 how many changes are kept, $2 for how many microseconds, $3 how many rows are looked at.
SELECT catalogue_forget($1, $2, $3)
