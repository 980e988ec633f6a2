-- The position of the log, and its lag behind the tables in microseconds.
SELECT last_seq, last_mark, greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint - swept_at, 0)
FROM catalogue_sequencer
WHERE id = 1
