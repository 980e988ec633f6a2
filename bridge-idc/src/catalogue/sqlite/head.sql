-- How far the log has come, and for how long it may have lagged behind the tables: $1 now.
SELECT last_seq, last_mark, max($1 - swept_at, 0)
FROM catalogue_sequencer
WHERE id = 1
