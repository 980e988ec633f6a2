SELECT last_seq, last_mark, swept_at, holder, expires_at, EXISTS (SELECT 1 FROM catalogue_pending)
FROM catalogue_sequencer
WHERE id = 1
