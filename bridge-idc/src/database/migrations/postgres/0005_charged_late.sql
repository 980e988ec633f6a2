-- Bridge's ledger, version 5: money that moved after it had been said that none did.
--
-- Such a payment is charged_late until its money is back, and returned then. It pays for nothing, so another payment of
-- its order may stand beside it. A payment that was given up is looked at again (next_ask_at) for some days.
--     SELECT * FROM payments WHERE state = 'charged_late';   -- whose money is not back yet
--
-- confirm_until is by this database's clock, as every time here: two agents' clocks may differ.

ALTER TABLE payments ADD COLUMN confirm_until bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN payments.confirm_until IS
    'Until when a request to charge may be on its way to the gateway; before that nobody says that it was not paid.';
-- What an agent of the version before is asking the gateway for now.
UPDATE payments SET confirm_until = next_ask_at WHERE next_ask_at IS NOT NULL;

ALTER TABLE payments
    DROP CONSTRAINT payments_state_check,
    DROP CONSTRAINT payments_check1,
    DROP CONSTRAINT payments_check3,
    DROP CONSTRAINT payments_check4,
    ADD CONSTRAINT payments_state_check CHECK (
        state IN (
            'confirming', 'unknown', 'paid', 'declined', 'not_paid', 'partially_refunded', 'refunded',
            'charged_late', 'returned'
        )
    ),
    ADD CONSTRAINT payments_asked_check CHECK (
        CASE WHEN state IN ('confirming', 'unknown') THEN next_ask_at IS NOT NULL
             WHEN state IN ('declined', 'not_paid') THEN true
             ELSE next_ask_at IS NULL END
    ),
    ADD CONSTRAINT payments_partly_check CHECK (
        state = 'charged_late' OR (state = 'partially_refunded') = (refunded > 0 AND refunded < amount)
    ),
    ADD CONSTRAINT payments_whole_check CHECK ((state IN ('refunded', 'returned')) = (refunded = amount));

-- An order is charged once: while one payment may have moved money that pays for it, there is no second.
DROP INDEX payments_order;
CREATE UNIQUE INDEX payments_order ON payments (order_id)
    WHERE state NOT IN ('declined', 'not_paid', 'charged_late', 'returned');
CREATE INDEX payments_charged_late ON payments (payment_id) WHERE state = 'charged_late';

-- A login that was given its rights before this version.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bridge_serve') THEN
        GRANT UPDATE (confirm_until) ON payments TO bridge_serve;
    END IF;
END
$$;
