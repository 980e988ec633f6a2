UPDATE catalogue_sequencer
SET last_seq = $1, last_mark = $2, swept_at = $3, holder = $4, expires_at = $5
WHERE id = 1
