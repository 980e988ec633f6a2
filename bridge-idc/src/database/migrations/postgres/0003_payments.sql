-- Bridge's ledger, version 3: what was charged, what was given back, and what nobody can tell yet.
--
-- Money is an integer of minor units, times are microseconds since 1970-01-01T00:00:00Z. No table here holds a card
-- number: payment_key is what the gateway knows a payment by.
--     SELECT * FROM payments WHERE next_ask_at IS NOT NULL ORDER BY created_at;   -- in doubt
-- bridge-idc payments resolve ends a doubt that the gateway does not end.

CREATE TABLE payments (
    payment_id   uuid PRIMARY KEY,
    brand        text COLLATE "C" NOT NULL,
    order_id     uuid NOT NULL REFERENCES orders,
    amount       bigint NOT NULL CHECK (amount > 0),
    currency     text COLLATE "C" NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    payment_key  text COLLATE "C" NOT NULL CHECK (length(payment_key) BETWEEN 1 AND 200),
    state        text COLLATE "C" NOT NULL CHECK (
        state IN ('confirming', 'unknown', 'paid', 'declined', 'not_paid', 'partially_refunded', 'refunded')
    ),
    refunded     bigint NOT NULL DEFAULT 0 CHECK (refunded BETWEEN 0 AND amount),
    code         text COLLATE "C",
    asks         bigint NOT NULL DEFAULT 0,
    next_ask_at  bigint,
    created_at   bigint NOT NULL,
    concluded_at bigint,
    CHECK ((state IN ('confirming', 'unknown')) = (next_ask_at IS NOT NULL)),
    CHECK ((state IN ('confirming', 'unknown')) = (concluded_at IS NULL)),
    CHECK ((state = 'partially_refunded') = (refunded > 0 AND refunded < amount)),
    CHECK ((state = 'refunded') = (refunded = amount))
) WITH (fillfactor = 70);
-- An order is charged once: while one payment may have moved money, there is no second.
CREATE UNIQUE INDEX payments_order ON payments (order_id) WHERE state NOT IN ('declined', 'not_paid');
CREATE INDEX payments_of_order ON payments (order_id, created_at);
CREATE INDEX payments_due ON payments (next_ask_at) WHERE next_ask_at IS NOT NULL;
COMMENT ON COLUMN payments.code IS 'Why it was declined or not paid: the gateway''s code, or an operator''s.';
COMMENT ON COLUMN payments.next_ask_at IS 'When the gateway is asked about it (again); null once it has told.';

-- automatic: nobody asked for it; its order was cancelled.
CREATE TABLE refunds (
    refund_id    uuid PRIMARY KEY,
    payment_id   uuid NOT NULL REFERENCES payments,
    amount       bigint NOT NULL CHECK (amount > 0),
    reason       text NOT NULL,
    automatic    boolean NOT NULL,
    state        text COLLATE "C" NOT NULL CHECK (state IN ('confirming', 'unknown', 'done', 'refused')),
    code         text COLLATE "C",
    asks         bigint NOT NULL DEFAULT 0,
    next_ask_at  bigint,
    created_at   bigint NOT NULL,
    concluded_at bigint,
    CHECK ((state IN ('confirming', 'unknown')) = (next_ask_at IS NOT NULL)),
    CHECK ((state IN ('confirming', 'unknown')) = (concluded_at IS NULL))
);
CREATE INDEX refunds_of_payment ON refunds (payment_id, created_at);
CREATE INDEX refunds_due ON refunds (next_ask_at) WHERE next_ask_at IS NOT NULL;

-- A row an idempotency key, written in the transaction of its effect.
CREATE TABLE payment_requests (
    key         bytea PRIMARY KEY CHECK (octet_length(key) = 32),
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    payment_id  uuid NOT NULL,
    refund_id   uuid
);
COMMENT ON COLUMN payment_requests.key IS 'SHA-256 of the brand and its idempotency key.';
COMMENT ON COLUMN payment_requests.fingerprint IS 'Keyed hash of the request: the same key with another body is refused.';
COMMENT ON COLUMN payment_requests.refund_id IS 'The refund that it asked for; null: it asked for the payment.';
