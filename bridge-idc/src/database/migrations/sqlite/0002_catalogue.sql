-- Bridge's ledger, version 2: what the storefront shows, and the log of what changed in it.
--
-- Change any row of brands, categories, products, product_categories, skus and stock with plain SQL: triggers note which
-- key it was, and the replicas in the cloud serve it moments after the commit. In the sqlite3 shell say
--     PRAGMA foreign_keys = ON;
-- first. Times are microseconds since 1970-01-01T00:00:00Z:
--     UPDATE products SET published_from = unixepoch('2026-12-01 10:00', '-9 hours') * 1000000 WHERE ...
-- Codes are 1 to 64 printable ASCII characters without a space at either end, and not . or ..

-- A tree a brand; parent is null at the root. names: by language, as in {"en": "Shoes", "ko": "신발"}. position: its
-- place among its siblings, smallest first; equal ones stand by their code.
CREATE TABLE categories (
    brand    TEXT NOT NULL REFERENCES brands,
    category TEXT NOT NULL CHECK (length(category) BETWEEN 1 AND 64 AND category NOT GLOB '*[^ -~]*')
        CHECK (category = trim(category) AND category NOT IN ('.', '..')),
    parent   TEXT CHECK (parent <> category),
    names    TEXT NOT NULL
        CHECK (json_valid(names) AND json_type(names) = 'object' AND length(CAST(names AS BLOB)) <= 16384),
    position INTEGER NOT NULL DEFAULT 0 CHECK (position BETWEEN -2147483648 AND 2147483647),
    PRIMARY KEY (brand, category),
    -- Judged at the commit: a tree may be brought in in any order.
    FOREIGN KEY (brand, parent) REFERENCES categories ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED
) STRICT, WITHOUT ROWID;
CREATE INDEX categories_parent ON categories (brand, parent);

-- names, descriptions: by language. document: whatever else the storefront shows, any JSON object, 256 KiB at most.
-- images: where its pictures are, the main one first, as in ["https://..."]. It is shown from published_from on and
-- before published_until; null: no such limit.
CREATE TABLE products (
    brand           TEXT NOT NULL REFERENCES brands,
    product         TEXT NOT NULL CHECK (length(product) BETWEEN 1 AND 64 AND product NOT GLOB '*[^ -~]*')
        CHECK (product = trim(product) AND product NOT IN ('.', '..')),
    names           TEXT NOT NULL
        CHECK (json_valid(names) AND json_type(names) = 'object' AND length(CAST(names AS BLOB)) <= 16384),
    descriptions    TEXT NOT NULL DEFAULT '{}'
        CHECK (json_valid(descriptions) AND json_type(descriptions) = 'object')
        CHECK (length(CAST(descriptions AS BLOB)) <= 262144),
    document        TEXT NOT NULL DEFAULT '{}'
        CHECK (json_valid(document) AND json_type(document) = 'object' AND length(CAST(document AS BLOB)) <= 262144),
    images          TEXT NOT NULL DEFAULT '[]'
        CHECK (json_valid(images) AND json_type(images) = 'array' AND length(CAST(images AS BLOB)) <= 65536),
    published_from  INTEGER,
    published_until INTEGER,
    PRIMARY KEY (brand, product),
    CHECK (published_from < published_until)
) STRICT;

-- In which categories a product stands. A row goes with its product or category, and follows when their codes change.
CREATE TABLE product_categories (
    brand    TEXT NOT NULL,
    product  TEXT NOT NULL,
    category TEXT NOT NULL,
    PRIMARY KEY (brand, product, category),
    FOREIGN KEY (brand, product) REFERENCES products ON DELETE CASCADE ON UPDATE CASCADE,
    FOREIGN KEY (brand, category) REFERENCES categories ON DELETE CASCADE ON UPDATE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX product_categories_category ON product_categories (brand, category);

-- The product that a SKU is a variant of; null, or one that is not there: shown nowhere. No foreign key: an order can
-- name a SKU whose product was taken out, and a SKU may come before its product.
ALTER TABLE skus ADD COLUMN product TEXT
    CHECK (length(product) BETWEEN 1 AND 64 AND product NOT GLOB '*[^ -~]*')
    CHECK (product = trim(product) AND product NOT IN ('.', '..'));
-- What sets it apart, as in {"size": "270", "colour": "black"}.
ALTER TABLE skus ADD COLUMN options TEXT NOT NULL DEFAULT '{}'
    CHECK (json_valid(options) AND json_type(options) = 'object' AND length(CAST(options AS BLOB)) <= 4096);
-- Its place among the variants, smallest first; equal ones stand by their SKU.
ALTER TABLE skus ADD COLUMN position INTEGER NOT NULL DEFAULT 0
    CHECK (position BETWEEN -2147483648 AND 2147483647);
CREATE INDEX skus_product ON skus (brand, product, position, sku);

-- The log. Kinds: 1 brand, 2 category, 3 product (with its variants), 4 stock (the code is the SKU).
--
-- A transaction appends the keys that it changed to catalogue_pending. The sequencer of one agent moves what is
-- committed to catalogue_changes and numbers it there: those numbers are dense, and every reader sees them grow in the
-- same order. As on PostgreSQL, where it could not be otherwise; leave both tables alone.
CREATE TABLE catalogue_pending (
    pending_id INTEGER PRIMARY KEY,
    kind       INTEGER NOT NULL,
    brand      TEXT NOT NULL,
    code       TEXT NOT NULL
) STRICT;

-- mark: when the number was given; it tells apart two histories that used the same number, after a restore from a
-- backup. Oldest rows go by themselves, the newest always stays.
CREATE TABLE catalogue_changes (
    seq   INTEGER PRIMARY KEY,
    mark  INTEGER NOT NULL,
    kind  INTEGER NOT NULL,
    brand TEXT NOT NULL,
    code  TEXT NOT NULL
) STRICT;

-- One row: which agent numbers the changes, until when, and how far it came. Whatever was committed before swept_at has
-- a number up to last_seq.
CREATE TABLE catalogue_sequencer (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    last_seq   INTEGER NOT NULL,
    last_mark  INTEGER NOT NULL,
    swept_at   INTEGER NOT NULL,
    holder     TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
INSERT INTO catalogue_sequencer VALUES (1, 0, 0, 0, '', 0);

-- A product says what currency its prices are in.
CREATE TRIGGER brands_insert AFTER INSERT ON brands BEGIN
    INSERT INTO catalogue_pending (kind, brand, code)
    SELECT 1, NEW.brand, NEW.brand UNION SELECT 3, brand, product FROM products WHERE brand = NEW.brand;
END;
CREATE TRIGGER brands_update AFTER UPDATE ON brands BEGIN
    INSERT INTO catalogue_pending (kind, brand, code)
    SELECT 1, OLD.brand, OLD.brand UNION SELECT 1, NEW.brand, NEW.brand
    UNION SELECT 3, brand, product FROM products WHERE brand IN (OLD.brand, NEW.brand);
END;
CREATE TRIGGER brands_delete AFTER DELETE ON brands BEGIN
    INSERT INTO catalogue_pending (kind, brand, code)
    SELECT 1, OLD.brand, OLD.brand UNION SELECT 3, brand, product FROM products WHERE brand = OLD.brand;
END;

CREATE TRIGGER categories_insert AFTER INSERT ON categories BEGIN
    INSERT INTO catalogue_pending (kind, brand, code) VALUES (2, NEW.brand, NEW.category);
END;
CREATE TRIGGER categories_update AFTER UPDATE ON categories BEGIN
    INSERT INTO catalogue_pending (kind, brand, code)
    SELECT 2, OLD.brand, OLD.category UNION SELECT 2, NEW.brand, NEW.category;
END;
CREATE TRIGGER categories_delete AFTER DELETE ON categories BEGIN
    INSERT INTO catalogue_pending (kind, brand, code) VALUES (2, OLD.brand, OLD.category);
END;

CREATE TRIGGER products_insert AFTER INSERT ON products BEGIN
    INSERT INTO catalogue_pending (kind, brand, code) VALUES (3, NEW.brand, NEW.product);
END;
CREATE TRIGGER products_update AFTER UPDATE ON products BEGIN
    INSERT INTO catalogue_pending (kind, brand, code)
    SELECT 3, OLD.brand, OLD.product UNION SELECT 3, NEW.brand, NEW.product;
END;
CREATE TRIGGER products_delete AFTER DELETE ON products BEGIN
    INSERT INTO catalogue_pending (kind, brand, code) VALUES (3, OLD.brand, OLD.product);
END;

CREATE TRIGGER product_categories_insert AFTER INSERT ON product_categories BEGIN
    INSERT INTO catalogue_pending (kind, brand, code) VALUES (3, NEW.brand, NEW.product);
END;
CREATE TRIGGER product_categories_update AFTER UPDATE ON product_categories BEGIN
    INSERT INTO catalogue_pending (kind, brand, code)
    SELECT 3, OLD.brand, OLD.product UNION SELECT 3, NEW.brand, NEW.product;
END;
CREATE TRIGGER product_categories_delete AFTER DELETE ON product_categories BEGIN
    INSERT INTO catalogue_pending (kind, brand, code) VALUES (3, OLD.brand, OLD.product);
END;

-- A SKU is a variant of its product, and gives its stock the name. Before: INSERT OR REPLACE and UPDATE OR REPLACE take
-- away the row that is in the way, and no trigger of its own tells.
CREATE TRIGGER skus_insert_over BEFORE INSERT ON skus BEGIN
    INSERT INTO catalogue_pending (kind, brand, code)
    SELECT 3, brand, product FROM skus
    WHERE product IS NOT NULL AND (sku_id = NEW.sku_id OR (brand = NEW.brand AND sku = NEW.sku))
    UNION
    SELECT 4, brand, sku FROM skus WHERE sku_id = NEW.sku_id OR (brand = NEW.brand AND sku = NEW.sku);
END;
CREATE TRIGGER skus_update_over BEFORE UPDATE OF sku_id, brand, sku ON skus BEGIN
    INSERT INTO catalogue_pending (kind, brand, code)
    SELECT 3, brand, product FROM skus
    WHERE product IS NOT NULL AND (sku_id = NEW.sku_id OR (brand = NEW.brand AND sku = NEW.sku))
    UNION
    SELECT 4, brand, sku FROM skus WHERE sku_id = NEW.sku_id OR (brand = NEW.brand AND sku = NEW.sku);
END;
CREATE TRIGGER skus_insert AFTER INSERT ON skus BEGIN
    INSERT INTO catalogue_pending (kind, brand, code)
    SELECT 3, NEW.brand, NEW.product WHERE NEW.product IS NOT NULL
    UNION
    SELECT 4, NEW.brand, NEW.sku FROM stock WHERE sku_id = NEW.sku_id;
END;
CREATE TRIGGER skus_update AFTER UPDATE ON skus BEGIN
    INSERT INTO catalogue_pending (kind, brand, code)
    SELECT 3, OLD.brand, OLD.product WHERE OLD.product IS NOT NULL
    UNION
    SELECT 3, NEW.brand, NEW.product WHERE NEW.product IS NOT NULL
    UNION
    SELECT 4, OLD.brand, OLD.sku
    WHERE (OLD.sku_id, OLD.brand, OLD.sku) IS NOT (NEW.sku_id, NEW.brand, NEW.sku)
    UNION
    SELECT 4, NEW.brand, NEW.sku
    WHERE (OLD.sku_id, OLD.brand, OLD.sku) IS NOT (NEW.sku_id, NEW.brand, NEW.sku);
END;
CREATE TRIGGER skus_delete AFTER DELETE ON skus BEGIN
    INSERT INTO catalogue_pending (kind, brand, code)
    SELECT 3, OLD.brand, OLD.product WHERE OLD.product IS NOT NULL
    UNION
    SELECT 4, OLD.brand, OLD.sku;
END;

CREATE TRIGGER stock_insert AFTER INSERT ON stock BEGIN
    INSERT INTO catalogue_pending (kind, brand, code)
    SELECT 4, brand, sku FROM skus WHERE sku_id = NEW.sku_id;
END;
CREATE TRIGGER stock_update AFTER UPDATE ON stock BEGIN
    INSERT INTO catalogue_pending (kind, brand, code)
    SELECT 4, brand, sku FROM skus WHERE sku_id IN (OLD.sku_id, NEW.sku_id);
END;
CREATE TRIGGER stock_delete AFTER DELETE ON stock BEGIN
    INSERT INTO catalogue_pending (kind, brand, code)
    SELECT 4, brand, sku FROM skus WHERE sku_id = OLD.sku_id;
END;
