-- Bridge's ledger, version 2: what the storefront shows, and the log of what changed in it.
--
-- Change any row of brands, categories, products, product_categories, skus and stock with plain SQL: triggers note which
-- key it was, and the replicas in the cloud serve it moments after the commit. No right on the log is needed for that.
-- Times are microseconds since 1970-01-01T00:00:00Z:
--     UPDATE products SET published_from = extract(epoch FROM timestamptz '2026-12-01 10:00+09') * 1000000 WHERE ...
-- Codes are 1 to 64 printable ASCII characters without a space at either end, and not . or ..

CREATE TABLE categories (
    brand    text COLLATE "C" NOT NULL REFERENCES brands,
    category text COLLATE "C" NOT NULL
        CHECK (category ~ '^[!-~]([ -~]{0,62}[!-~])?$' AND category NOT IN ('.', '..')),
    parent   text COLLATE "C" CHECK (parent <> category),
    names    jsonb NOT NULL
        CHECK (jsonb_typeof(names) = 'object' AND octet_length(names::text) <= 16384)
        CHECK (NOT jsonb_path_exists(names, 'strict $.* ? (@.type() != "string")')),
    position integer NOT NULL DEFAULT 0,
    PRIMARY KEY (brand, category),
    -- Judged at the commit: a tree may be brought in in any order.
    FOREIGN KEY (brand, parent) REFERENCES categories ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX categories_parent ON categories (brand, parent);
COMMENT ON TABLE categories IS 'A tree a brand. parent is null at the root.';
COMMENT ON COLUMN categories.names IS 'By language, as in {"en": "Shoes", "ko": "신발"}.';
COMMENT ON COLUMN categories.position IS 'Its place among its siblings, smallest first; equal ones stand by their code.';

CREATE TABLE products (
    brand           text COLLATE "C" NOT NULL REFERENCES brands,
    product         text COLLATE "C" NOT NULL
        CHECK (product ~ '^[!-~]([ -~]{0,62}[!-~])?$' AND product NOT IN ('.', '..')),
    names           jsonb NOT NULL
        CHECK (jsonb_typeof(names) = 'object' AND octet_length(names::text) <= 16384)
        CHECK (NOT jsonb_path_exists(names, 'strict $.* ? (@.type() != "string")')),
    descriptions    jsonb NOT NULL DEFAULT '{}'
        CHECK (jsonb_typeof(descriptions) = 'object' AND octet_length(descriptions::text) <= 262144)
        CHECK (NOT jsonb_path_exists(descriptions, 'strict $.* ? (@.type() != "string")')),
    document        jsonb NOT NULL DEFAULT '{}'
        CHECK (jsonb_typeof(document) = 'object' AND octet_length(document::text) <= 262144),
    images          jsonb NOT NULL DEFAULT '[]'
        CHECK (jsonb_typeof(images) = 'array' AND octet_length(images::text) <= 65536)
        CHECK (NOT jsonb_path_exists(images, 'strict $[*] ? (@.type() != "string")')),
    published_from  bigint,
    published_until bigint,
    PRIMARY KEY (brand, product),
    CHECK (published_from < published_until)
);
COMMENT ON COLUMN products.names IS 'By language, as in {"en": "Trail shoe", "ko": "트레일화"}.';
COMMENT ON COLUMN products.descriptions IS 'By language, like names.';
COMMENT ON COLUMN products.document IS 'Whatever else the storefront shows: any JSON object, 256 KiB at most.';
COMMENT ON COLUMN products.images IS 'Where its pictures are, the main one first, as in ["https://..."].';
COMMENT ON COLUMN products.published_from IS 'It is not shown before this moment; null: it always was.';
COMMENT ON COLUMN products.published_until IS 'It is not shown from this moment on; null: it stays.';

-- A row goes with its product or category, and follows when their codes change.
CREATE TABLE product_categories (
    brand    text COLLATE "C" NOT NULL,
    product  text COLLATE "C" NOT NULL,
    category text COLLATE "C" NOT NULL,
    PRIMARY KEY (brand, product, category),
    FOREIGN KEY (brand, product) REFERENCES products ON DELETE CASCADE ON UPDATE CASCADE,
    FOREIGN KEY (brand, category) REFERENCES categories ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE INDEX product_categories_category ON product_categories (brand, category);
COMMENT ON TABLE product_categories IS 'In which categories a product stands.';

-- No foreign key: an order can name a SKU whose product was taken out, and a SKU may come before its product.
ALTER TABLE skus
    ADD COLUMN product  text COLLATE "C"
        CHECK (product ~ '^[!-~]([ -~]{0,62}[!-~])?$' AND product NOT IN ('.', '..')),
    ADD COLUMN options  jsonb NOT NULL DEFAULT '{}'
        CHECK (jsonb_typeof(options) = 'object' AND octet_length(options::text) <= 4096)
        CHECK (NOT jsonb_path_exists(options, 'strict $.* ? (@.type() != "string")')),
    ADD COLUMN position integer NOT NULL DEFAULT 0;
-- What a replica can name. Rows from before are not judged.
ALTER TABLE skus ADD CONSTRAINT skus_sku_printable CHECK (sku ~ '^[!-~]([ -~]{0,62}[!-~])?$') NOT VALID;
CREATE INDEX skus_product ON skus (brand, product, position, sku);
COMMENT ON COLUMN skus.product IS 'The product that it is a variant of; null, or one that is not there: shown nowhere.';
COMMENT ON COLUMN skus.options IS 'What sets it apart, as in {"size": "270", "colour": "black"}.';
COMMENT ON COLUMN skus.position IS 'Its place among the variants, smallest first; equal ones stand by their SKU.';

-- The log. Kinds: 1 brand, 2 category, 3 product (with its variants), 4 stock (the code is the SKU).
--
-- A transaction appends the keys that it changed to catalogue_pending. Their ids are taken before the commit, so a
-- smaller one may show up later than a larger one: nobody may read in their order. The sequencer of one agent moves
-- what is committed to catalogue_changes and numbers it there: those numbers are dense, and every reader sees them grow
-- in the same order, whatever commits meanwhile.

CREATE TABLE catalogue_pending (
    pending_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       smallint NOT NULL,
    brand      text COLLATE "C" NOT NULL,
    code       text COLLATE "C" NOT NULL
) WITH (
    -- Rows live for milliseconds: what they leave behind is to be cleared away by their number, not by a share.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 5000
);
COMMENT ON TABLE catalogue_pending IS 'Keys of the catalogue that changed and have no number yet. Leave it alone.';

CREATE TABLE catalogue_changes (
    seq   bigint PRIMARY KEY,
    mark  bigint NOT NULL,
    kind  smallint NOT NULL,
    brand text COLLATE "C" NOT NULL,
    code  text COLLATE "C" NOT NULL
);
COMMENT ON TABLE catalogue_changes IS 'The numbered log. Oldest rows go by themselves, the newest always stays.';
COMMENT ON COLUMN catalogue_changes.mark IS
    'When the number was given: tells apart two histories that used the same number, after a restore from a backup.';

CREATE TABLE catalogue_sequencer (
    id         integer PRIMARY KEY CHECK (id = 1),
    last_seq   bigint NOT NULL,
    last_mark  bigint NOT NULL,
    swept_at   bigint NOT NULL,
    holder     text NOT NULL,
    expires_at bigint NOT NULL
) WITH (fillfactor = 50);
INSERT INTO catalogue_sequencer VALUES (1, 0, 0, 0, '', 0);
COMMENT ON TABLE catalogue_sequencer IS 'One row: which agent numbers the changes, until when, and how far it came.';
COMMENT ON COLUMN catalogue_sequencer.swept_at IS
    'Whatever was committed before this moment has a number up to last_seq.';

-- Triggers. They run as the tables' owner, so that whoever may change a row needs no right on the log. One run a
-- statement: an order's stock is one insert here.

CREATE FUNCTION catalogue_touch_brands() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO catalogue_pending (kind, brand, code) SELECT 1, brand, brand FROM new_rows;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO catalogue_pending (kind, brand, code) SELECT 1, brand, brand FROM old_rows;
    ELSE
        INSERT INTO catalogue_pending (kind, brand, code)
        SELECT 1, brand, brand FROM (SELECT brand FROM old_rows UNION SELECT brand FROM new_rows) AS touched;
        -- A product says what currency its prices are in.
        INSERT INTO catalogue_pending (kind, brand, code)
        SELECT 3, products.brand, products.product
        FROM old_rows
        JOIN new_rows USING (brand)
        JOIN products USING (brand)
        WHERE old_rows.currency <> new_rows.currency;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION catalogue_touch_categories() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO catalogue_pending (kind, brand, code) SELECT 2, brand, category FROM new_rows;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO catalogue_pending (kind, brand, code) SELECT 2, brand, category FROM old_rows;
    ELSE
        INSERT INTO catalogue_pending (kind, brand, code)
        SELECT 2, brand, category FROM old_rows UNION SELECT 2, brand, category FROM new_rows;
    END IF;
    RETURN NULL;
END
$$;

-- Also for product_categories, whose rows are part of their product.
CREATE FUNCTION catalogue_touch_products() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO catalogue_pending (kind, brand, code) SELECT DISTINCT 3, brand, product FROM new_rows;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO catalogue_pending (kind, brand, code) SELECT DISTINCT 3, brand, product FROM old_rows;
    ELSE
        INSERT INTO catalogue_pending (kind, brand, code)
        SELECT 3, brand, product FROM old_rows UNION SELECT 3, brand, product FROM new_rows;
    END IF;
    RETURN NULL;
END
$$;

-- A SKU is a variant of its product, and gives its stock the name.
CREATE FUNCTION catalogue_touch_skus() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO catalogue_pending (kind, brand, code)
        SELECT DISTINCT 3, brand, product FROM new_rows WHERE product IS NOT NULL;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO catalogue_pending (kind, brand, code)
        SELECT 3, brand, product FROM old_rows WHERE product IS NOT NULL
        UNION
        SELECT 4, brand, sku FROM old_rows;
    ELSE
        INSERT INTO catalogue_pending (kind, brand, code)
        SELECT 3, brand, product FROM old_rows WHERE product IS NOT NULL
        UNION
        SELECT 3, brand, product FROM new_rows WHERE product IS NOT NULL;
        INSERT INTO catalogue_pending (kind, brand, code)
        SELECT 4, renamed.brand, renamed.sku
        FROM old_rows
        FULL JOIN new_rows USING (sku_id)
        CROSS JOIN LATERAL (
            VALUES (old_rows.brand, old_rows.sku), (new_rows.brand, new_rows.sku)
        ) AS renamed (brand, sku)
        WHERE (old_rows.brand, old_rows.sku) IS DISTINCT FROM (new_rows.brand, new_rows.sku)
            AND renamed.brand IS NOT NULL;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION catalogue_touch_stock() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO catalogue_pending (kind, brand, code)
        SELECT 4, skus.brand, skus.sku FROM new_rows JOIN skus USING (sku_id);
    ELSIF TG_OP = 'DELETE' THEN
        -- Where the SKU went in the same statement, its own trigger names the key.
        INSERT INTO catalogue_pending (kind, brand, code)
        SELECT 4, skus.brand, skus.sku FROM old_rows JOIN skus USING (sku_id);
    ELSE
        INSERT INTO catalogue_pending (kind, brand, code)
        SELECT 4, skus.brand, skus.sku
        FROM (SELECT sku_id FROM old_rows UNION SELECT sku_id FROM new_rows) AS touched
        JOIN skus USING (sku_id);
    END IF;
    RETURN NULL;
END
$$;

-- TRUNCATE names no rows: every key of the table, while it is still there.
CREATE FUNCTION catalogue_touch_all() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    CASE TG_TABLE_NAME
    WHEN 'brands' THEN
        INSERT INTO catalogue_pending (kind, brand, code) SELECT 1, brand, brand FROM brands;
    WHEN 'categories' THEN
        INSERT INTO catalogue_pending (kind, brand, code) SELECT 2, brand, category FROM categories;
    WHEN 'products' THEN
        INSERT INTO catalogue_pending (kind, brand, code) SELECT 3, brand, product FROM products;
    WHEN 'product_categories' THEN
        INSERT INTO catalogue_pending (kind, brand, code) SELECT DISTINCT 3, brand, product FROM product_categories;
    WHEN 'skus' THEN
        INSERT INTO catalogue_pending (kind, brand, code)
        SELECT 3, brand, product FROM skus WHERE product IS NOT NULL
        UNION
        SELECT 4, brand, sku FROM skus;
    WHEN 'stock' THEN
        INSERT INTO catalogue_pending (kind, brand, code)
        SELECT 4, skus.brand, skus.sku FROM stock JOIN skus USING (sku_id);
    END CASE;
    RETURN NULL;
END
$$;

-- Wakes the sequencer at the commit. An agent tells its own by itself and sets bridge.tells_sequencer: NOTIFY makes
-- commits wait for each other, which orders must not.
CREATE FUNCTION catalogue_wake() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF current_setting('bridge.tells_sequencer', true) IS DISTINCT FROM 'on' AND EXISTS (SELECT FROM new_rows) THEN
        PERFORM pg_notify('bridge_catalogue_pending', '');
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER catalogue_wake AFTER INSERT ON catalogue_pending
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION catalogue_wake();

DO $$
DECLARE
    source record;
BEGIN
    FOR source IN
        SELECT * FROM (VALUES
            ('brands', 'brands'), ('categories', 'categories'), ('products', 'products'),
            ('product_categories', 'products'), ('skus', 'skus'), ('stock', 'stock')
        ) AS touched (by_table, keys)
    LOOP
        EXECUTE format(
            'CREATE TRIGGER catalogue_insert AFTER INSERT ON %I REFERENCING NEW TABLE AS new_rows '
            'FOR EACH STATEMENT EXECUTE FUNCTION catalogue_touch_%s()', source.by_table, source.keys);
        EXECUTE format(
            'CREATE TRIGGER catalogue_update AFTER UPDATE ON %I REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows '
            'FOR EACH STATEMENT EXECUTE FUNCTION catalogue_touch_%s()', source.by_table, source.keys);
        EXECUTE format(
            'CREATE TRIGGER catalogue_delete AFTER DELETE ON %I REFERENCING OLD TABLE AS old_rows '
            'FOR EACH STATEMENT EXECUTE FUNCTION catalogue_touch_%s()', source.by_table, source.keys);
        EXECUTE format(
            'CREATE TRIGGER catalogue_truncate BEFORE TRUNCATE ON %I '
            'FOR EACH STATEMENT EXECUTE FUNCTION catalogue_touch_all()', source.by_table);
    END LOOP;
END
$$;

-- One round of the sequencer, for the agent that holds the lease or can take it. An agent may run this and write to the
-- log in no other way.
--
-- held: whether the agent holds the lease now. numbered: keys that got a number. emptied: nothing is pending that was
-- committed before this round. swept_ago: how long before this round's start the log was last known to be whole, up to
-- last_seq and last_mark.
CREATE FUNCTION catalogue_sequence(
    agent text, lease_micros bigint, pending_max integer,
    OUT held boolean, OUT numbered bigint, OUT emptied boolean,
    OUT last_seq bigint, OUT last_mark bigint, OUT swept_ago bigint
) LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    -- Before the first look at what is pending: what is committed by now will be seen.
    started bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    found   record;
    swept   bigint;
    taken   bigint;
BEGIN
    SELECT sequencer.*, EXISTS (SELECT FROM catalogue_pending) AS pending
    INTO found FROM catalogue_sequencer AS sequencer WHERE sequencer.id = 1;
    -- A lease that ends in more than a minute was written before the clock was set back.
    held := found.holder = agent OR found.expires_at NOT BETWEEN started + 1 AND started + 60000000;
    numbered := 0;
    emptied := NOT found.pending;
    last_seq := found.last_seq;
    last_mark := found.last_mark;
    swept := found.swept_at;
    IF NOT held OR (
        emptied AND found.holder = agent AND lease_micros > 0
        AND found.expires_at BETWEEN started + lease_micros / 3 * 2 AND started + lease_micros
    ) THEN
        -- Nothing to write: another agent's turn, or all is quiet and the lease is fresh.
        IF held AND emptied THEN
            swept := started;
        END IF;
        swept_ago := greatest(started - swept, 0);
        RETURN;
    END IF;

    -- From here on no other agent numbers anything, and each statement sees what the last one that did has committed.
    SELECT * INTO found FROM catalogue_sequencer AS sequencer WHERE sequencer.id = 1 FOR UPDATE;
    held := found.holder = agent OR found.expires_at NOT BETWEEN started + 1 AND started + 60000000;
    last_seq := found.last_seq;
    last_mark := found.last_mark;
    swept := found.swept_at;
    IF held THEN
        -- A moment of its own for each round, whatever the clock does.
        last_mark := greatest(found.last_mark + 1, started);
        WITH taken AS (
            DELETE FROM catalogue_pending AS pending
            WHERE pending.pending_id IN (
                SELECT oldest.pending_id FROM catalogue_pending AS oldest ORDER BY oldest.pending_id LIMIT pending_max
            )
            RETURNING pending.pending_id, pending.kind, pending.brand, pending.code
        ), keys AS (
            SELECT taken.kind, taken.brand, taken.code, min(taken.pending_id) AS first
            FROM taken GROUP BY taken.kind, taken.brand, taken.code
        ), numbers AS (
            INSERT INTO catalogue_changes AS changes (seq, mark, kind, brand, code)
            SELECT found.last_seq + row_number() OVER (ORDER BY keys.first), last_mark, keys.kind, keys.brand, keys.code
            FROM keys
            RETURNING changes.seq
        )
        SELECT (SELECT count(*) FROM taken), (SELECT count(*) FROM numbers) INTO taken, numbered;
        emptied := taken < pending_max;
        IF emptied THEN
            swept := started;
        END IF;
        IF numbered > 0 THEN
            last_seq := found.last_seq + numbered;
            PERFORM pg_notify('bridge_catalogue_sequenced', '');
        ELSE
            last_mark := found.last_mark;
        END IF;
        UPDATE catalogue_sequencer AS sequencer
        SET last_seq = catalogue_sequence.last_seq, last_mark = catalogue_sequence.last_mark, swept_at = swept,
            holder = agent, expires_at = started + lease_micros
        WHERE sequencer.id = 1;
    END IF;
    swept_ago := greatest(started - swept, 0);
END
$$;

-- Forgets the oldest changes: all but the last `kept`, and those that are older than `kept_micros`. Looks at `rows_max`
-- rows and returns how many went. A reader that needs them starts anew, with whole rows.
CREATE FUNCTION catalogue_forget(kept bigint, kept_micros bigint, rows_max integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    newest    bigint := (SELECT max(changes.seq) FROM catalogue_changes AS changes);
    cutoff    bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - kept_micros;
    forgotten bigint;
BEGIN
    DELETE FROM catalogue_changes AS changes
    WHERE changes.seq IN (
        SELECT oldest.seq
        FROM (SELECT old.seq, old.mark FROM catalogue_changes AS old ORDER BY old.seq LIMIT rows_max) AS oldest
        WHERE oldest.seq < newest AND (oldest.seq <= newest - kept OR oldest.mark < cutoff)
    );
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END
$$;

-- The functions that run as the owner find the owner's tables, whatever search_path the caller has set.
DO $$
DECLARE
    function regprocedure;
BEGIN
    FOR function IN
        SELECT oid FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'catalogue\_%' AND prosecdef
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, %I, pg_temp', function, current_schema());
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END
$$;
