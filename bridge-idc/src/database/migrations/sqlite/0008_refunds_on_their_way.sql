-- Bridge's ledger, version 8: until when a request to give back may be on its way to the gateway.
--
-- next_ask_at tells a request that is out from a pause between two requests no more than it does of payments (confirm_until).
-- Before give_back_until no operator says that nothing went back: what that word leaves would go back a second time.
--     SELECT * FROM refunds WHERE state = 'unknown' ORDER BY created_at;   -- in doubt

-- Until when a request to give back may be on its way to the gateway; before that no operator says that nothing went back.
ALTER TABLE refunds ADD COLUMN give_back_until INTEGER NOT NULL DEFAULT 0;

-- What an agent of the version before is asking the gateway for now. It holds a row for no more than 150 seconds (two calls of
-- at most a minute, and half a minute); a time beyond that is a pause.
UPDATE refunds SET give_back_until =
    min(next_ask_at, CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER) + 150000000)
WHERE next_ask_at IS NOT NULL;

-- An agent of the version before may work beside this one. It does not know the column: whatever it begins, or takes to ask the
-- gateway for, is on its way for as long as it holds the row. What this version writes is so already.
CREATE TRIGGER refunds_begun AFTER INSERT ON refunds
    WHEN NOT NEW.automatic AND NEW.next_ask_at > NEW.give_back_until
BEGIN
    UPDATE refunds SET give_back_until = next_ask_at WHERE refund_id = NEW.refund_id;
END;
CREATE TRIGGER refunds_taken AFTER UPDATE OF asks ON refunds
    WHEN NEW.asks > OLD.asks AND NEW.next_ask_at > NEW.give_back_until
BEGIN
    UPDATE refunds SET give_back_until = next_ask_at WHERE refund_id = NEW.refund_id;
END;
