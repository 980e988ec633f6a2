-- $1 how many changes are kept, $2 the oldest mark that is kept, $3 how many rows are looked at. The newest stays.
DELETE FROM catalogue_changes
WHERE seq IN (
    SELECT seq
    FROM (SELECT seq, mark FROM catalogue_changes ORDER BY seq LIMIT $3)
    WHERE seq < (SELECT max(seq) FROM catalogue_changes)
        AND (seq <= (SELECT max(seq) FROM catalogue_changes) - $1 OR mark < $2)
)
