-- Numbers the pending changes, each key once: $1 the last number, $2 the mark, $3 most pending
-- rows.
INSERT INTO catalogue_changes (seq, mark, kind, brand, code)
SELECT $1 + row_number() OVER (ORDER BY min(pending_id)), $2, kind, brand, code
FROM (SELECT pending_id, kind, brand, code FROM catalogue_pending ORDER BY pending_id LIMIT $3)
GROUP BY kind, brand, code
