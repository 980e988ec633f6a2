-- One round of the sequencer: $1 agent, $2 lease in microseconds, $3 how many pending rows at most.
--
-- Not waited for by fsync: a crash that loses a round brings its pending rows back. They are numbered again, with
-- another mark, by which readers that had the lost numbers see that they must start anew.
SELECT
    round.held, round.numbered, round.emptied, round.last_seq, round.last_mark, round.swept_ago,
    set_config('synchronous_commit', 'off', true)
FROM catalogue_sequence($1, $2, $3) AS round
