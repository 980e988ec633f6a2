-- How far the log has come, and for how long it may have lagged behind the tables.
SELECT last_seq, last_mark, greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint - swept_at, 0)
FROM catalogue_sequencer
WHERE id = 1
