-- The changes of the log from a number on, inclusive: $1 the number, $2 most changes.
SELECT seq, mark, kind, brand, code
FROM catalogue_changes
WHERE seq >= $1
ORDER BY seq
LIMIT $2
