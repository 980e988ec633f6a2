-- Bridge's ledger, version 7: which keys it was written with, so that an agent with other keys does not begin to write.
--
-- A value is derived from its key and tells nothing of it. Where a key is lost for good and another one is meant to take its
-- place, stop all agents and delete its row: what the lost key closed stays closed.

CREATE TABLE key_checks (
    key_name text PRIMARY KEY,
    value    bytea NOT NULL CHECK (octet_length(value) = 32),
    noted_at bigint NOT NULL
);
COMMENT ON TABLE key_checks IS
    'What each key of the agents is known by, from the first agent that had it. It discloses no key.';

-- A login that was given its rights before this version.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bridge_serve') THEN
        GRANT SELECT, INSERT ON key_checks TO bridge_serve;
    END IF;
END
$$;
