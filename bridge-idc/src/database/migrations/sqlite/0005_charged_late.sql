-- Bridge's ledger, version 5: money that moved after it had been said that none did.
--
-- Such a payment is charged_late until its money is back, and returned then. It pays for nothing, so another payment of
-- its order may stand beside it. A payment that was given up is looked at again (next_ask_at) for some days.
--     SELECT * FROM payments WHERE state = 'charged_late';   -- whose money is not back yet
--
-- SQLite changes no constraint of a table that is there: both tables are made anew, the one that refers to the other with it.

CREATE TABLE refunds_before AS SELECT * FROM refunds;
DROP TABLE refunds;

-- confirm_until: until when a request to charge may be on its way to the gateway; before that nobody says that it was not
-- paid.
CREATE TABLE payments_new (
    payment_id    BLOB PRIMARY KEY CHECK (length(payment_id) = 16),
    brand         TEXT NOT NULL,
    order_id      BLOB NOT NULL REFERENCES orders,
    amount        INTEGER NOT NULL CHECK (amount > 0),
    currency      TEXT NOT NULL CHECK (length(currency) = 3),
    payment_key   TEXT NOT NULL CHECK (length(payment_key) BETWEEN 1 AND 200),
    state         TEXT NOT NULL CHECK (
        state IN (
            'confirming', 'unknown', 'paid', 'declined', 'not_paid', 'partially_refunded', 'refunded',
            'charged_late', 'returned'
        )
    ),
    refunded      INTEGER NOT NULL DEFAULT 0 CHECK (refunded BETWEEN 0 AND amount),
    code          TEXT,
    asks          INTEGER NOT NULL DEFAULT 0,
    next_ask_at   INTEGER,
    created_at    INTEGER NOT NULL,
    concluded_at  INTEGER,
    confirm_until INTEGER NOT NULL DEFAULT 0,
    CHECK (
        CASE WHEN state IN ('confirming', 'unknown') THEN next_ask_at IS NOT NULL
             WHEN state IN ('declined', 'not_paid') THEN true
             ELSE next_ask_at IS NULL END
    ),
    CHECK ((state IN ('confirming', 'unknown')) = (concluded_at IS NULL)),
    CHECK (state = 'charged_late' OR (state = 'partially_refunded') = (refunded > 0 AND refunded < amount)),
    CHECK ((state IN ('refunded', 'returned')) = (refunded = amount))
) STRICT, WITHOUT ROWID;
-- What an agent of the version before is asking the gateway for now is on its way until then.
INSERT INTO payments_new
SELECT
    payment_id, brand, order_id, amount, currency, payment_key, state, refunded, code, asks, next_ask_at, created_at,
    concluded_at, coalesce(next_ask_at, 0)
FROM payments;
DROP TABLE payments;
ALTER TABLE payments_new RENAME TO payments;
-- An order is charged once: while one payment may have moved money that pays for it, there is no second.
CREATE UNIQUE INDEX payments_order ON payments (order_id)
    WHERE state NOT IN ('declined', 'not_paid', 'charged_late', 'returned');
CREATE INDEX payments_of_order ON payments (order_id, created_at);
CREATE INDEX payments_due ON payments (next_ask_at) WHERE next_ask_at IS NOT NULL;
CREATE INDEX payments_charged_late ON payments (payment_id) WHERE state = 'charged_late';

-- automatic: 1 if nobody asked for it; its order was cancelled, or it was charged late.
CREATE TABLE refunds (
    refund_id    BLOB PRIMARY KEY CHECK (length(refund_id) = 16),
    payment_id   BLOB NOT NULL REFERENCES payments,
    amount       INTEGER NOT NULL CHECK (amount > 0),
    reason       TEXT NOT NULL,
    automatic    INTEGER NOT NULL CHECK (automatic IN (0, 1)),
    state        TEXT NOT NULL CHECK (state IN ('confirming', 'unknown', 'done', 'refused')),
    code         TEXT,
    asks         INTEGER NOT NULL DEFAULT 0,
    next_ask_at  INTEGER,
    created_at   INTEGER NOT NULL,
    concluded_at INTEGER,
    CHECK ((state IN ('confirming', 'unknown')) = (next_ask_at IS NOT NULL)),
    CHECK ((state IN ('confirming', 'unknown')) = (concluded_at IS NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO refunds SELECT * FROM refunds_before;
DROP TABLE refunds_before;
CREATE INDEX refunds_of_payment ON refunds (payment_id, created_at);
CREATE INDEX refunds_due ON refunds (next_ask_at) WHERE next_ask_at IS NOT NULL;
