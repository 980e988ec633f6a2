-- Deletes the numbered rows, in the transaction that numbered them: $1 most pending rows.
DELETE FROM catalogue_pending
WHERE pending_id IN (SELECT pending_id FROM catalogue_pending ORDER BY pending_id LIMIT $1)
