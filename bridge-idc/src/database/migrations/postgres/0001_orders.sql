-- Bridge's ledger, version 1: what is on sale, what was decided, what was ordered, who ordered it (as ciphertext).
--
-- Money is an integer of minor units. Times are microseconds since 1970-01-01T00:00:00Z by the IDC's clock:
--     to_timestamp(committed_at / 1e6)
-- The tables that every order writes have no foreign keys: each would lock the row it points at, and the row of a
-- hot SKU is what all orders of a launch wait for. One transaction writes them all, and the agent may delete nothing.

CREATE TABLE brands (
    brand    text COLLATE "C" PRIMARY KEY CHECK (brand ~ '^[a-z0-9-]{1,32}$'),
    currency text COLLATE "C" NOT NULL CHECK (currency ~ '^[A-Z]{3}$')
);
COMMENT ON TABLE brands IS 'Tenants, and the one ISO 4217 currency that each sells in.';

CREATE TABLE skus (
    sku_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    brand  text COLLATE "C" NOT NULL REFERENCES brands,
    sku    text COLLATE "C" NOT NULL CHECK (length(sku) BETWEEN 1 AND 64),
    price  bigint NOT NULL CHECK (price BETWEEN 0 AND 1000000000000000),
    UNIQUE (brand, sku)
);
COMMENT ON COLUMN skus.price IS 'What one unit costs now, in minor units of the brand''s currency.';

-- Half of each page stays free and no index covers a column that changes: an update stays in its page (HOT).
CREATE TABLE stock (
    sku_id    bigint PRIMARY KEY REFERENCES skus,
    initial   bigint NOT NULL,
    available bigint NOT NULL CHECK (available >= 0),
    sold      bigint NOT NULL CHECK (sold >= 0),
    CONSTRAINT stock_balanced CHECK (initial = available + sold)
) WITH (fillfactor = 50);
COMMENT ON TABLE stock IS 'Units: all that were ever brought in, those still for sale, those in orders that stand.';

-- A row an idempotency key, written in the transaction of its effect. Within one transaction the positions follow the
-- keys, not the order of admission.
CREATE TABLE outcomes (
    position     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key          bytea NOT NULL UNIQUE CHECK (octet_length(key) = 32),
    brand        text COLLATE "C" NOT NULL,
    operation    text COLLATE "C" NOT NULL CHECK (operation IN ('place', 'cancel')),
    order_id     uuid NOT NULL,
    fingerprint  bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    outcome      text COLLATE "C" NOT NULL,
    sku          text COLLATE "C",
    price        bigint,
    currency     text COLLATE "C",
    committed_at bigint NOT NULL,
    CHECK ((price IS NULL) = (currency IS NULL))
);
-- An order id is placed, or rejected, once.
CREATE UNIQUE INDEX outcomes_place ON outcomes (order_id) WHERE operation = 'place';
COMMENT ON COLUMN outcomes.key IS 'SHA-256 of the brand and its idempotency key.';
COMMENT ON COLUMN outcomes.fingerprint IS 'Keyed hash of the request: the same key with another body is refused.';
COMMENT ON COLUMN outcomes.sku IS 'The SKU that a rejection is about; price and currency: what it costs now.';

CREATE TABLE orders (
    order_id           uuid PRIMARY KEY,
    brand              text COLLATE "C" NOT NULL,
    position           bigint NOT NULL,
    customer_reference text COLLATE "C" NOT NULL,
    currency           text COLLATE "C" NOT NULL,
    shipping_fee       bigint NOT NULL CHECK (shipping_fee >= 0),
    total              bigint NOT NULL CHECK (total >= 0),
    state              text COLLATE "C" NOT NULL DEFAULT 'placed' CHECK (state IN ('placed', 'cancelled')),
    committed_at       bigint NOT NULL,
    cancelled_at       bigint,
    CHECK ((state = 'cancelled') = (cancelled_at IS NOT NULL))
);
COMMENT ON COLUMN orders.position IS 'The outcome that placed it.';

CREATE TABLE order_lines (
    order_id   uuid NOT NULL,
    line_no    integer NOT NULL,
    sku_id     bigint NOT NULL,
    quantity   bigint NOT NULL CHECK (quantity > 0),
    unit_price bigint NOT NULL CHECK (unit_price >= 0),
    PRIMARY KEY (order_id, line_no)
);
COMMENT ON COLUMN order_lines.line_no IS 'From 0, in the order in which the storefront sent the lines.';

CREATE TABLE order_personal (
    order_id             uuid PRIMARY KEY,
    key_version          integer NOT NULL,
    wrapped_key          bytea NOT NULL,
    customer_name        bytea,
    customer_phone       bytea,
    customer_email       bytea,
    delivery_name        bytea,
    delivery_phone       bytea,
    delivery_postal_code bytea,
    delivery_address     bytea,
    delivery_country     bytea,
    delivery_note        bytea
);
COMMENT ON TABLE order_personal IS
    'Ciphertext only. bridge-idc personal show ORDER --purpose "..." is the one way to read it.';

CREATE TABLE personal_access (
    access_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id  uuid NOT NULL,
    purpose   text NOT NULL,
    who       text NOT NULL,
    at        bigint NOT NULL
);
COMMENT ON TABLE personal_access IS 'Who had personal data decrypted, when and what for.';
