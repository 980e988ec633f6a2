-- Bridge's ledger, version 7: which keys it was written with, so that an agent with other keys does not begin to write.
--
-- A value is derived from its key and tells nothing of it. Where a key is lost for good and another one is meant to take its
-- place, stop all agents and delete its row: what the lost key closed stays closed.

-- What each key of the agents is known by, from the first agent that had it.
CREATE TABLE key_checks (
    key_name TEXT PRIMARY KEY,
    value    BLOB NOT NULL CHECK (length(value) = 32),
    noted_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
