-- Bridge's ledger, version 9: what was refused after a doubt is looked at again.
--
-- A refund that nobody could tell about is refused by an operator's word, or by the gateway's when it was asked once more. For some
-- days an agent looks whether the gateway shows it as given back all the same. It is never asked for again.
--     SELECT * FROM refunds WHERE state = 'refused' AND look_at IS NOT NULL;   -- still looked at

ALTER TABLE refunds ADD COLUMN look_at bigint;
COMMENT ON COLUMN refunds.look_at IS
    'When a refund that was refused after a doubt is looked at again: it may have gone back after all. It is never asked for again.';
-- Whether there was a doubt, the row does not tell; to look at one that had none changes nothing.
UPDATE refunds SET look_at = concluded_at + 600000000
WHERE state = 'refused'
    AND concluded_at > CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) - 604800000000;
CREATE INDEX refunds_refused_looks ON refunds (look_at) WHERE look_at IS NOT NULL AND state = 'refused';

-- An agent of the version before may work beside this one, or its `payments resolve`. It does not know the column: what it refuses
-- after a doubt is looked at ten minutes later. What this version writes is so already.
CREATE OR REPLACE FUNCTION refunds_are_looked_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.look_at := NEW.concluded_at + 600000000;
    RETURN NEW;
END
$$;
CREATE TRIGGER refunds_refused BEFORE UPDATE OF state ON refunds FOR EACH ROW
    WHEN (
        NEW.state = 'refused' AND NEW.look_at IS NULL AND (
            OLD.state = 'unknown'
            OR (OLD.state = 'confirming' AND OLD.asks > CASE WHEN OLD.automatic THEN 1 ELSE 0 END)
        )
    )
    EXECUTE FUNCTION refunds_are_looked_at();

-- A login that was given its rights before this version.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bridge_serve') THEN
        GRANT UPDATE (look_at) ON refunds TO bridge_serve;
    END IF;
END
$$;
