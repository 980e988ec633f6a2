-- Deletes old changes of the log: $1 number of changes to keep, $2 oldest mark to keep, $3 most
-- rows to check. The newest change always stays.
DELETE FROM catalogue_changes
WHERE seq IN (
    SELECT seq
    FROM (SELECT seq, mark FROM catalogue_changes ORDER BY seq LIMIT $3)
    WHERE seq < (SELECT max(seq) FROM catalogue_changes)
        AND (seq <= (SELECT max(seq) FROM catalogue_changes) - $1 OR mark < $2)
)
