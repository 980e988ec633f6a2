-- Bridge's ledger, version 10: launches, which sell some SKUs from a moment on, and so many units to one customer.
--
-- From its row on, a launch sells its SKUs alone: nothing before opens_at, then within its limits. Once it has ended, by
-- ends_at or ended_at, its SKUs sell as any other does. All times are judged by this database's clock:
--     INSERT INTO launches (brand, launch, opens_at, customer_limit)
--     VALUES ('acme', 'air-one', extract(epoch FROM timestamptz '2026-12-01 10:00+09') * 1000000, 1);
--     INSERT INTO launch_skus (launch_id, sku_id)
--     SELECT launch_id, sku_id FROM launches JOIN skus USING (brand) WHERE launch = 'air-one' AND sku LIKE 'AIR-1-%';

CREATE TABLE launches (
    launch_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    brand          text COLLATE "C" NOT NULL REFERENCES brands,
    launch         text COLLATE "C" NOT NULL
        CONSTRAINT launch_name_is_1_to_64_of_a_to_z_0_to_9_and_hyphen CHECK (launch ~ '^[a-z0-9-]{1,64}$'),
    opens_at       bigint NOT NULL CONSTRAINT opens_at_is_in_microseconds CHECK (opens_at BETWEEN 1000000000000000 AND 32503680000000000),
    ends_at        bigint CONSTRAINT ends_at_is_in_microseconds CHECK (ends_at <= 32503680000000000),
    units          bigint CONSTRAINT units_is_at_least_1 CHECK (units BETWEEN 1 AND 1000000000),
    customer_limit bigint NOT NULL CONSTRAINT customer_limit_is_at_least_1 CHECK (customer_limit BETWEEN 1 AND 1000000000),
    rate_per_s     bigint CONSTRAINT rate_per_s_is_at_least_1 CHECK (rate_per_s BETWEEN 1 AND 1000000),
    session_s      bigint NOT NULL DEFAULT 600 CONSTRAINT session_s_is_10_to_86400 CHECK (session_s BETWEEN 10 AND 86400),
    claim_s        bigint NOT NULL DEFAULT 120 CONSTRAINT claim_s_is_10_to_86400 CHECK (claim_s BETWEEN 10 AND 86400),
    ended_at       bigint,
    UNIQUE (brand, launch),
    CONSTRAINT ends_at_is_after_opens_at CHECK (ends_at > opens_at)
);
COMMENT ON TABLE launches IS 'Sales of some SKUs from a moment on, with a limit a customer.';
COMMENT ON COLUMN launches.ends_at IS 'It ends by itself at this moment; null: when it is ended.';
COMMENT ON COLUMN launches.units IS 'What it sells in all; null: all that is in stock.';
COMMENT ON COLUMN launches.customer_limit IS 'What it sells to one customer, over all its SKUs.';
COMMENT ON COLUMN launches.rate_per_s IS 'People who are let in a second; null: as many as the ledger can take.';
COMMENT ON COLUMN launches.session_s IS 'Seconds that a person who was let in has to order and pay.';
COMMENT ON COLUMN launches.claim_s IS 'Seconds after which a place that is not claimed is given to the next person.';
COMMENT ON COLUMN launches.ended_at IS 'When it was ended, for good; null: it was not.';

-- selling: the time in which no other launch may sell the SKU. A trigger sets it from the launch.
CREATE TABLE launch_skus (
    launch_id      bigint NOT NULL REFERENCES launches ON DELETE CASCADE,
    sku_id         bigint NOT NULL REFERENCES skus,
    customer_limit bigint CONSTRAINT sku_customer_limit_is_at_least_1 CHECK (customer_limit BETWEEN 1 AND 1000000000),
    selling        int8range NOT NULL DEFAULT 'empty',
    PRIMARY KEY (launch_id, sku_id),
    CONSTRAINT one_launch_of_a_sku_at_a_time
        EXCLUDE USING gist (int8range(sku_id, sku_id, '[]') WITH &&, selling WITH &&)
);
-- What each batch of orders asks. A launch that ended at its ends_at keeps its rows here until ended_at is set.
CREATE INDEX launch_skus_selling ON launch_skus (sku_id) WHERE NOT isempty(selling);
COMMENT ON TABLE launch_skus IS 'What a launch sells.';
COMMENT ON COLUMN launch_skus.customer_limit IS 'What one customer can buy of this SKU; null: the launch''s limit alone.';
COMMENT ON COLUMN launch_skus.selling IS 'From opens_at to the end, by a trigger; empty: the launch was ended.';

-- The row of a launch that its orders take turns at, as they do at the row of a hot SKU's stock.
CREATE TABLE launch_sales (
    launch_id bigint PRIMARY KEY REFERENCES launches ON DELETE CASCADE,
    sold      bigint NOT NULL DEFAULT 0 CHECK (sold >= 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE launch_sales IS 'Units of a launch in orders that stand. Leave it to the agents.';

-- As with the other tables of an order, no foreign keys: the agent wrote the order in the same transaction.
CREATE TABLE launch_purchases (
    order_id      uuid NOT NULL,
    sku_id        bigint NOT NULL,
    launch_id     bigint NOT NULL,
    customer      bytea NOT NULL CHECK (octet_length(customer) = 32),
    units         bigint NOT NULL CHECK (units > 0),
    given_back_at bigint,
    PRIMARY KEY (order_id, sku_id)
);
-- A customer has no more rows here than the limit.
CREATE INDEX launch_purchases_customer ON launch_purchases (launch_id, customer) WHERE given_back_at IS NULL;
COMMENT ON TABLE launch_purchases IS 'Units of orders that a launch sold.';
COMMENT ON COLUMN launch_purchases.customer IS 'Keyed hash of brand and customer reference.';
COMMENT ON COLUMN launch_purchases.given_back_at IS 'When the order was cancelled; its units count no more.';

CREATE FUNCTION launches_begin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO launch_sales (launch_id) VALUES (NEW.launch_id);
    RETURN NULL;
END
$$;
CREATE TRIGGER launches_begin AFTER INSERT ON launches FOR EACH ROW EXECUTE FUNCTION launches_begin();

CREATE FUNCTION launches_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.launch_id, NEW.brand) <> (OLD.launch_id, OLD.brand) THEN
        RAISE EXCEPTION 'a launch keeps its brand: end it, and add another one' USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.ended_at IS NOT NULL AND NEW.ended_at IS DISTINCT FROM OLD.ended_at THEN
        RAISE EXCEPTION 'launch % has ended, for good: add another one', OLD.launch USING ERRCODE = 'check_violation';
    END IF;
    UPDATE launch_skus SET selling =
        CASE WHEN NEW.ended_at IS NULL THEN int8range(NEW.opens_at, NEW.ends_at) ELSE 'empty'::int8range END
    WHERE launch_id = NEW.launch_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER launches_change AFTER UPDATE ON launches FOR EACH ROW EXECUTE FUNCTION launches_change();

CREATE FUNCTION launches_go() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Waits for an order that is being committed.
    PERFORM FROM launch_sales WHERE launch_id = OLD.launch_id FOR UPDATE;
    IF EXISTS (SELECT FROM launch_purchases WHERE launch_id = OLD.launch_id) THEN
        RAISE EXCEPTION 'launch % has orders: set its ended_at instead', OLD.launch USING ERRCODE = 'check_violation';
    END IF;
    RETURN OLD;
END
$$;
CREATE TRIGGER launches_go BEFORE DELETE ON launches FOR EACH ROW EXECUTE FUNCTION launches_go();

CREATE FUNCTION launch_skus_sell() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    of_launch launches;
BEGIN
    -- The lock keeps the launch's times as they are read until the row is there.
    SELECT * INTO of_launch FROM launches WHERE launch_id = NEW.launch_id FOR SHARE;
    IF of_launch.brand <> (SELECT brand FROM skus WHERE sku_id = NEW.sku_id) THEN
        RAISE EXCEPTION 'SKU row % is not of brand %, whose launch this is', NEW.sku_id, of_launch.brand
            USING ERRCODE = 'check_violation';
    END IF;
    NEW.selling :=
        CASE WHEN of_launch.ended_at IS NULL THEN int8range(of_launch.opens_at, of_launch.ends_at) ELSE 'empty'::int8range END;
    RETURN NEW;
END
$$;
CREATE TRIGGER launch_skus_sell BEFORE INSERT OR UPDATE OF launch_id, sku_id ON launch_skus
    FOR EACH ROW EXECUTE FUNCTION launch_skus_sell();

-- What a refusal by a launch says: when it opens; or what one customer can buy, and had bought.
ALTER TABLE outcomes
    ADD COLUMN opens_at       bigint,
    ADD COLUMN customer_limit bigint,
    ADD COLUMN bought         bigint;
COMMENT ON COLUMN outcomes.opens_at IS 'Of launch-not-open: when the launch opens.';
COMMENT ON COLUMN outcomes.customer_limit IS 'Of limit-reached: what one customer can buy.';
COMMENT ON COLUMN outcomes.bought IS 'Of limit-reached: what the customer had in orders that stood.';

-- A login that was given its rights before this version.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bridge_serve') THEN
        GRANT SELECT ON launches, launch_skus, launch_sales, launch_purchases TO bridge_serve;
        GRANT UPDATE (sold) ON launch_sales TO bridge_serve;
        GRANT INSERT, UPDATE (given_back_at) ON launch_purchases TO bridge_serve;
    END IF;
END
$$;
