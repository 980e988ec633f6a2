-- One round of the sequencer: $1 agent, $2 lease in microseconds, $3 most pending rows.
--
-- The commit does not wait for fsync. If a crash loses a round, its pending rows exist again and
-- get new numbers with another mark. A reader that has the lost numbers notices the other mark and
-- starts again.
SELECT
    round.held, round.numbered, round.emptied, round.last_seq, round.last_mark, round.swept_ago,
    set_config('synchronous_commit', 'off', true)
FROM catalogue_sequence($1, $2, $3) AS round
