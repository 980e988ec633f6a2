-- The position of the log, and its lag behind the tables in microseconds: $1 now.
SELECT last_seq, last_mark, max($1 - swept_at, 0)
FROM catalogue_sequencer
WHERE id = 1
