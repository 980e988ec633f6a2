-- Bridge's ledger, version 3: what was charged, what was given back, and what nobody can tell yet.
--
-- Money is an integer of minor units, times are microseconds since 1970-01-01T00:00:00Z. No table here holds a card
-- number: payment_key is what the gateway knows a payment by.
--     SELECT * FROM payments WHERE next_ask_at IS NOT NULL ORDER BY created_at;   -- in doubt
-- bridge-idc payments resolve ends a doubt that the gateway does not end.

-- code: why it was declined or not paid: the gateway's code, or an operator's. next_ask_at: when the gateway is asked
-- about it (again); null once it has told.
CREATE TABLE payments (
    payment_id   BLOB PRIMARY KEY CHECK (length(payment_id) = 16),
    brand        TEXT NOT NULL,
    order_id     BLOB NOT NULL REFERENCES orders,
    amount       INTEGER NOT NULL CHECK (amount > 0),
    currency     TEXT NOT NULL CHECK (length(currency) = 3),
    payment_key  TEXT NOT NULL CHECK (length(payment_key) BETWEEN 1 AND 200),
    state        TEXT NOT NULL CHECK (
        state IN ('confirming', 'unknown', 'paid', 'declined', 'not_paid', 'partially_refunded', 'refunded')
    ),
    refunded     INTEGER NOT NULL DEFAULT 0 CHECK (refunded BETWEEN 0 AND amount),
    code         TEXT,
    asks         INTEGER NOT NULL DEFAULT 0,
    next_ask_at  INTEGER,
    created_at   INTEGER NOT NULL,
    concluded_at INTEGER,
    CHECK ((state IN ('confirming', 'unknown')) = (next_ask_at IS NOT NULL)),
    CHECK ((state IN ('confirming', 'unknown')) = (concluded_at IS NULL)),
    CHECK ((state = 'partially_refunded') = (refunded > 0 AND refunded < amount)),
    CHECK ((state = 'refunded') = (refunded = amount))
) STRICT, WITHOUT ROWID;
-- An order is charged once: while one payment may have moved money, there is no second.
CREATE UNIQUE INDEX payments_order ON payments (order_id) WHERE state NOT IN ('declined', 'not_paid');
CREATE INDEX payments_of_order ON payments (order_id, created_at);
CREATE INDEX payments_due ON payments (next_ask_at) WHERE next_ask_at IS NOT NULL;

-- automatic: 1 if nobody asked for it; its order was cancelled.
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
CREATE INDEX refunds_of_payment ON refunds (payment_id, created_at);
CREATE INDEX refunds_due ON refunds (next_ask_at) WHERE next_ask_at IS NOT NULL;

-- A row an idempotency key, written in the transaction of its effect. key: SHA-256 of the brand and its idempotency key.
-- fingerprint: keyed hash of the request. refund_id: the refund that it asked for; null: it asked for the payment.
CREATE TABLE payment_requests (
    key         BLOB PRIMARY KEY CHECK (length(key) = 32),
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    payment_id  BLOB NOT NULL,
    refund_id   BLOB
) STRICT, WITHOUT ROWID;
