-- The log from a number on, that one included: $1 the number, $2 how many.
SELECT seq, mark, kind, brand, code
FROM catalogue_changes
WHERE seq >= $1
ORDER BY seq
LIMIT $2
