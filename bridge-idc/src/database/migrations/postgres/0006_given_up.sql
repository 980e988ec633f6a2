-- Bridge's ledger, version 6: what was given up is looked at by a column of its own.
--
-- An agent of a version before asks the gateway about whatever has a next_ask_at, and may have it charged once more. A
-- payment that was given up has none from now on, so agents of both versions can work side by side.
--     SELECT * FROM payments WHERE next_ask_at IS NOT NULL ORDER BY created_at;   -- in doubt, and nothing else

ALTER TABLE payments ADD COLUMN look_at bigint;
COMMENT ON COLUMN payments.look_at IS
    'When a payment that was given up is looked at again: it may have been charged after all. It is never charged again.';
UPDATE payments SET look_at = next_ask_at, next_ask_at = NULL
WHERE state IN ('declined', 'not_paid') AND next_ask_at IS NOT NULL;

-- No constraint ties look_at to these states: an agent of version 5 still writes next_ask_at into such a row, and leaves
-- look_at where it was when it finds that the payment was charged.
CREATE INDEX payments_given_up ON payments (look_at) WHERE look_at IS NOT NULL AND state IN ('declined', 'not_paid');

-- A login that was given its rights before this version.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bridge_serve') THEN
        GRANT UPDATE (look_at) ON payments TO bridge_serve;
    END IF;
END
$$;
