-- Bridge's ledger, version 10: launches, which sell some SKUs from a moment on, and so many units to one customer.
--
-- From its row on, a launch sells its SKUs alone: nothing before opens_at, then within its limits. Once it has ended, by
-- ends_at or ended_at, its SKUs sell as any other does. All times are judged by this machine's clock. In the sqlite3 shell
-- say PRAGMA foreign_keys = ON; first:
--     INSERT INTO launches (brand, launch, opens_at, customer_limit)
--     VALUES ('acme', 'air-one', unixepoch('2026-12-01 10:00', '-9 hours') * 1000000, 1);
--     INSERT INTO launch_skus (launch_id, sku_id)
--     SELECT launch_id, sku_id FROM launches JOIN skus USING (brand) WHERE launch = 'air-one' AND sku LIKE 'AIR-1-%';

-- ends_at: it ends by itself at this moment; null: when it is ended. units: what it sells in all; null: all that is in
-- stock. customer_limit: what it sells to one customer, over all its SKUs. rate_per_s: people who are let in a second;
-- null: as many as the ledger can take. session_s: seconds that a person who was let in has to order and pay. claim_s:
-- seconds after which a place that is not claimed is given to the next person. ended_at: when it was ended, for good.
CREATE TABLE launches (
    launch_id      INTEGER PRIMARY KEY,
    brand          TEXT NOT NULL REFERENCES brands,
    launch         TEXT NOT NULL CONSTRAINT launch_name_is_1_to_64_of_a_to_z_0_to_9_and_hyphen
        CHECK (length(launch) BETWEEN 1 AND 64 AND launch NOT GLOB '*[^a-z0-9-]*'),
    opens_at       INTEGER NOT NULL
        CONSTRAINT opens_at_is_in_microseconds CHECK (opens_at BETWEEN 1000000000000000 AND 32503680000000000),
    ends_at        INTEGER CONSTRAINT ends_at_is_in_microseconds CHECK (ends_at <= 32503680000000000),
    units          INTEGER CONSTRAINT units_is_at_least_1 CHECK (units BETWEEN 1 AND 1000000000),
    customer_limit INTEGER NOT NULL CONSTRAINT customer_limit_is_at_least_1 CHECK (customer_limit BETWEEN 1 AND 1000000000),
    rate_per_s     INTEGER CONSTRAINT rate_per_s_is_at_least_1 CHECK (rate_per_s BETWEEN 1 AND 1000000),
    session_s      INTEGER NOT NULL DEFAULT 600 CONSTRAINT session_s_is_10_to_86400 CHECK (session_s BETWEEN 10 AND 86400),
    claim_s        INTEGER NOT NULL DEFAULT 120 CONSTRAINT claim_s_is_10_to_86400 CHECK (claim_s BETWEEN 10 AND 86400),
    ended_at       INTEGER,
    UNIQUE (brand, launch),
    CONSTRAINT ends_at_is_after_opens_at CHECK (ends_at > opens_at)
) STRICT;

-- What a launch sells. customer_limit: what one customer can buy of this SKU; null: the launch's limit alone.
CREATE TABLE launch_skus (
    launch_id      INTEGER NOT NULL REFERENCES launches ON DELETE CASCADE,
    sku_id         INTEGER NOT NULL REFERENCES skus,
    customer_limit INTEGER CONSTRAINT sku_customer_limit_is_at_least_1 CHECK (customer_limit BETWEEN 1 AND 1000000000),
    PRIMARY KEY (launch_id, sku_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX launch_skus_sku ON launch_skus (sku_id);

-- Units of a launch in orders that stand. Leave it to the agents.
CREATE TABLE launch_sales (
    launch_id INTEGER PRIMARY KEY REFERENCES launches ON DELETE CASCADE,
    sold      INTEGER NOT NULL DEFAULT 0 CHECK (sold >= 0)
) STRICT;

-- Units of orders that a launch sold. customer: keyed hash of brand and customer reference. given_back_at: when the order
-- was cancelled; its units count no more.
CREATE TABLE launch_purchases (
    order_id      BLOB NOT NULL REFERENCES orders,
    sku_id        INTEGER NOT NULL REFERENCES skus,
    launch_id     INTEGER NOT NULL REFERENCES launches,
    customer      BLOB NOT NULL CHECK (length(customer) = 32),
    units         INTEGER NOT NULL CHECK (units > 0),
    given_back_at INTEGER,
    PRIMARY KEY (order_id, sku_id)
) STRICT, WITHOUT ROWID;
-- A customer has no more rows here than the limit.
CREATE INDEX launch_purchases_customer ON launch_purchases (launch_id, customer) WHERE given_back_at IS NULL;

CREATE TRIGGER launches_begin AFTER INSERT ON launches
BEGIN
    INSERT INTO launch_sales (launch_id) VALUES (NEW.launch_id);
END;

CREATE TRIGGER launches_change BEFORE UPDATE ON launches
BEGIN
    SELECT RAISE(ABORT, 'a launch keeps its brand: end it, and add another one')
    WHERE (NEW.launch_id, NEW.brand) <> (OLD.launch_id, OLD.brand);
    SELECT RAISE(ABORT, 'the launch has ended, for good: add another one')
    WHERE OLD.ended_at IS NOT NULL AND NEW.ended_at IS NOT OLD.ended_at;
    SELECT RAISE(ABORT, 'one_launch_of_a_sku_at_a_time: another launch sells a SKU of this one at that time')
    WHERE NEW.ended_at IS NULL AND EXISTS (
        SELECT 1
        FROM launch_skus AS own
        JOIN launch_skus AS others ON others.sku_id = own.sku_id AND others.launch_id <> own.launch_id
        JOIN launches ON launches.launch_id = others.launch_id
        WHERE own.launch_id = NEW.launch_id
            AND launches.ended_at IS NULL
            AND (launches.ends_at IS NULL OR launches.ends_at > NEW.opens_at)
            AND (NEW.ends_at IS NULL OR NEW.ends_at > launches.opens_at)
    );
END;

CREATE TRIGGER launches_go BEFORE DELETE ON launches
    WHEN EXISTS (SELECT 1 FROM launch_purchases WHERE launch_id = OLD.launch_id)
BEGIN
    SELECT RAISE(ABORT, 'the launch has orders: set its ended_at instead');
END;

CREATE TRIGGER launch_skus_sell BEFORE INSERT ON launch_skus
BEGIN
    SELECT RAISE(ABORT, 'the SKU is not of the brand whose launch this is')
    WHERE (SELECT brand FROM launches WHERE launch_id = NEW.launch_id) <> (SELECT brand FROM skus WHERE sku_id = NEW.sku_id);
    SELECT RAISE(ABORT, 'one_launch_of_a_sku_at_a_time: another launch sells this SKU at that time')
    WHERE EXISTS (
        SELECT 1
        FROM launches AS own
        JOIN launch_skus AS others ON others.sku_id = NEW.sku_id AND others.launch_id <> own.launch_id
        JOIN launches ON launches.launch_id = others.launch_id
        WHERE own.launch_id = NEW.launch_id
            AND own.ended_at IS NULL
            AND launches.ended_at IS NULL
            AND (launches.ends_at IS NULL OR launches.ends_at > own.opens_at)
            AND (own.ends_at IS NULL OR own.ends_at > launches.opens_at)
    );
END;

CREATE TRIGGER launch_skus_stay BEFORE UPDATE OF launch_id, sku_id ON launch_skus
BEGIN
    SELECT RAISE(ABORT, 'what a launch sells is added and deleted, never changed');
END;

-- What a refusal by a launch says. opens_at: when the launch opens. customer_limit: what one customer can buy. bought: what
-- the customer had in orders that stood.
ALTER TABLE outcomes ADD COLUMN opens_at INTEGER;
ALTER TABLE outcomes ADD COLUMN customer_limit INTEGER;
ALTER TABLE outcomes ADD COLUMN bought INTEGER;
