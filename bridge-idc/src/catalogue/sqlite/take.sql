-- Takes away what was numbered, in the same transaction: $1 how many pending rows at most.
DELETE FROM catalogue_pending
WHERE pending_id IN (SELECT pending_id FROM catalogue_pending ORDER BY pending_id LIMIT $1)
