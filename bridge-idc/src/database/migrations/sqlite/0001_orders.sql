-- Bridge's ledger, version 1: what is on sale, what was decided, what was ordered, who ordered it (as ciphertext).
--
-- Money is an integer of minor units. Times are microseconds since 1970-01-01T00:00:00Z by the IDC's clock:
--     datetime(committed_at / 1000000, 'unixepoch')
-- Order ids are the 16 bytes of a UUID: hex(order_id).

-- Tenants, and the one ISO 4217 currency that each sells in.
CREATE TABLE brands (
    brand    TEXT PRIMARY KEY CHECK (length(brand) BETWEEN 1 AND 32),
    currency TEXT NOT NULL CHECK (length(currency) = 3)
) STRICT, WITHOUT ROWID;

-- price: what one unit costs now, in minor units of the brand's currency.
CREATE TABLE skus (
    sku_id INTEGER PRIMARY KEY,
    brand  TEXT NOT NULL REFERENCES brands,
    sku    TEXT NOT NULL CHECK (length(sku) BETWEEN 1 AND 64),
    price  INTEGER NOT NULL CHECK (price BETWEEN 0 AND 1000000000000000),
    UNIQUE (brand, sku)
) STRICT;

-- Units: all that were ever brought in, those still for sale, those in orders that stand.
CREATE TABLE stock (
    sku_id    INTEGER PRIMARY KEY REFERENCES skus,
    initial   INTEGER NOT NULL,
    available INTEGER NOT NULL CHECK (available >= 0),
    sold      INTEGER NOT NULL CHECK (sold >= 0),
    CONSTRAINT stock_balanced CHECK (initial = available + sold)
) STRICT;

-- A row an idempotency key, written in the transaction of its effect. key: SHA-256 of the brand and its idempotency
-- key. fingerprint: keyed hash of the request. sku: what a rejection is about; price and currency: what it costs now.
-- Within one transaction the positions follow the keys, not the order of admission.
CREATE TABLE outcomes (
    position     INTEGER PRIMARY KEY,
    key          BLOB NOT NULL UNIQUE CHECK (length(key) = 32),
    brand        TEXT NOT NULL,
    operation    TEXT NOT NULL CHECK (operation IN ('place', 'cancel')),
    order_id     BLOB NOT NULL CHECK (length(order_id) = 16),
    fingerprint  BLOB NOT NULL CHECK (length(fingerprint) = 32),
    outcome      TEXT NOT NULL,
    sku          TEXT,
    price        INTEGER,
    currency     TEXT,
    committed_at INTEGER NOT NULL,
    CHECK ((price IS NULL) = (currency IS NULL))
) STRICT;
-- An order id is placed, or rejected, once.
CREATE UNIQUE INDEX outcomes_place ON outcomes (order_id) WHERE operation = 'place';

-- position: the outcome that placed it.
CREATE TABLE orders (
    order_id           BLOB PRIMARY KEY CHECK (length(order_id) = 16),
    brand              TEXT NOT NULL REFERENCES brands,
    position           INTEGER NOT NULL REFERENCES outcomes,
    customer_reference TEXT NOT NULL,
    currency           TEXT NOT NULL,
    shipping_fee       INTEGER NOT NULL CHECK (shipping_fee >= 0),
    total              INTEGER NOT NULL CHECK (total >= 0),
    state              TEXT NOT NULL DEFAULT 'placed' CHECK (state IN ('placed', 'cancelled')),
    committed_at       INTEGER NOT NULL,
    cancelled_at       INTEGER,
    CHECK ((state = 'cancelled') = (cancelled_at IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- line_no: from 0, in the order in which the storefront sent the lines.
CREATE TABLE order_lines (
    order_id   BLOB NOT NULL REFERENCES orders,
    line_no    INTEGER NOT NULL,
    sku_id     INTEGER NOT NULL REFERENCES skus,
    quantity   INTEGER NOT NULL CHECK (quantity > 0),
    unit_price INTEGER NOT NULL CHECK (unit_price >= 0),
    PRIMARY KEY (order_id, line_no)
) STRICT, WITHOUT ROWID;

-- Ciphertext only. bridge-idc personal show ORDER --purpose "..." is the one way to read it.
CREATE TABLE order_personal (
    order_id             BLOB PRIMARY KEY REFERENCES orders,
    key_version          INTEGER NOT NULL,
    wrapped_key          BLOB NOT NULL,
    customer_name        BLOB,
    customer_phone       BLOB,
    customer_email       BLOB,
    delivery_name        BLOB,
    delivery_phone       BLOB,
    delivery_postal_code BLOB,
    delivery_address     BLOB,
    delivery_country     BLOB,
    delivery_note        BLOB
) STRICT;

-- Who had personal data decrypted, when and what for.
CREATE TABLE personal_access (
    access_id INTEGER PRIMARY KEY,
    order_id  BLOB NOT NULL,
    purpose   TEXT NOT NULL,
    who       TEXT NOT NULL,
    at        INTEGER NOT NULL
) STRICT;
