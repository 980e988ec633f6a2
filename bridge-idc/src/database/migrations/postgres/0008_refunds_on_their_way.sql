-- Bridge's ledger, version 8: until when a request to give back may be on its way to the gateway.
--
-- next_ask_at tells a request that is out from a pause between two requests no more than it does of payments (confirm_until).
-- Before give_back_until no operator says that nothing went back: what that word leaves would go back a second time.
--     SELECT * FROM refunds WHERE state = 'unknown' ORDER BY created_at;   -- in doubt

ALTER TABLE refunds ADD COLUMN give_back_until bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN refunds.give_back_until IS
    'Until when a request to give back may be on its way to the gateway; before that no operator says that nothing went back.';

-- What an agent of the version before is asking the gateway for now. It holds a row for no more than 150 seconds (two calls of
-- at most a minute, and half a minute); a time beyond that is a pause.
UPDATE refunds SET give_back_until =
    least(next_ask_at, CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) + 150000000)
WHERE next_ask_at IS NOT NULL;

-- An agent of the version before may work beside this one. It does not know the column: whatever it begins, or takes to ask the
-- gateway for, is on its way for as long as it holds the row. What this version writes is so already.
CREATE OR REPLACE FUNCTION refunds_are_on_their_way() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.give_back_until := NEW.next_ask_at;
    RETURN NEW;
END
$$;
CREATE TRIGGER refunds_begun BEFORE INSERT ON refunds FOR EACH ROW
    WHEN (NOT NEW.automatic AND NEW.next_ask_at > NEW.give_back_until)
    EXECUTE FUNCTION refunds_are_on_their_way();
CREATE TRIGGER refunds_taken BEFORE UPDATE OF asks ON refunds FOR EACH ROW
    WHEN (NEW.asks > OLD.asks AND NEW.next_ask_at > NEW.give_back_until)
    EXECUTE FUNCTION refunds_are_on_their_way();

-- A login that was given its rights before this version.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bridge_serve') THEN
        GRANT UPDATE (give_back_until) ON refunds TO bridge_serve;
    END IF;
END
$$;
