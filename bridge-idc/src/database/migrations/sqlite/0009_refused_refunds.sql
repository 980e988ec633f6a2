-- Bridge's ledger, version 9: what was refused after a doubt is looked at again.
--
-- A refund that nobody could tell about is refused by an operator's word, or by the gateway's when it was asked once more. For some
-- days an agent looks whether the gateway shows it as given back all the same. It is never asked for again.
--     SELECT * FROM refunds WHERE state = 'refused' AND look_at IS NOT NULL;   -- still looked at

-- When a refund that was refused after a doubt is looked at again.
ALTER TABLE refunds ADD COLUMN look_at INTEGER;
-- Whether there was a doubt, the row does not tell; to look at one that had none changes nothing.
UPDATE refunds SET look_at = concluded_at + 600000000
WHERE state = 'refused' AND concluded_at > CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER) - 604800000000;
CREATE INDEX refunds_refused_looks ON refunds (look_at) WHERE look_at IS NOT NULL AND state = 'refused';

-- An agent of the version before may work beside this one, or its `payments resolve`. It does not know the column: what it refuses
-- after a doubt is looked at ten minutes later. What this version writes is so already.
CREATE TRIGGER refunds_refused AFTER UPDATE OF state ON refunds
    WHEN NEW.state = 'refused' AND NEW.look_at IS NULL
        AND (OLD.state = 'unknown' OR (OLD.state = 'confirming' AND OLD.asks > OLD.automatic))
BEGIN
    UPDATE refunds SET look_at = concluded_at + 600000000 WHERE refund_id = NEW.refund_id;
END;
