-- The rights that Bridge needs on its ledger, and no more. Run after each
--     bridge-idc migrate
-- as a superuser, or as the owner of the tables with CREATEROLE; it is safe to run again:
--     psql --set ON_ERROR_STOP=1 --single-transaction --file role.sql DATABASE
-- It makes four roles without a login, which you grant to logins of your own:
--     CREATE ROLE bridge_agent LOGIN PASSWORD '...' IN ROLE bridge_serve;
-- With this set up, give the agent that login, set ledger.migrate = false, and migrate as the owner.
--
-- Nobody here may DELETE or TRUNCATE anything but in which categories a product stands, nor change an outcome, a line or
-- a ciphertext.

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['bridge_serve', 'bridge_stock', 'bridge_catalogue', 'bridge_personal'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        END IF;
    END LOOP;
END
$$;

-- bridge_serve: bridge-idc serve. It commits orders and says how they stand. It writes personal data and cannot read
-- it: there is no SELECT on order_personal.
GRANT SELECT ON schema_migrations, brands, skus, stock, outcomes, orders, order_lines TO bridge_serve;
GRANT INSERT ON outcomes, orders, order_lines, order_personal TO bridge_serve;
GRANT UPDATE (available, sold) ON stock TO bridge_serve;
GRANT UPDATE (state, cancelled_at) ON orders TO bridge_serve;
-- It compares its keys with those that the ledger was written with.
GRANT SELECT, INSERT ON key_checks TO bridge_serve;
-- It charges and gives back. What a payment or a refund is about it can never change, only how it stands.
GRANT SELECT, INSERT ON payments, refunds, payment_requests TO bridge_serve;
GRANT UPDATE (state, refunded, code, asks, next_ask_at, look_at, concluded_at, confirm_until) ON payments TO bridge_serve;
GRANT UPDATE (state, code, asks, next_ask_at, concluded_at, give_back_until, look_at) ON refunds TO bridge_serve;
-- It publishes the catalogue: these columns, and no others of its tables, can ever reach a storefront.
GRANT SELECT (brand, category, parent, names, position) ON categories TO bridge_serve;
GRANT SELECT (brand, product, names, descriptions, document, images, published_from, published_until)
    ON products TO bridge_serve;
GRANT SELECT (brand, product, category) ON product_categories TO bridge_serve;
-- It numbers what changed, and writes to that log in no other way.
GRANT SELECT ON catalogue_sequencer, catalogue_changes, catalogue_pending TO bridge_serve;
GRANT EXECUTE ON FUNCTION catalogue_sequence, catalogue_forget TO bridge_serve;

-- bridge_stock: bridge-idc stock import. It brings in brands, SKUs, prices and units, and sees no order.
GRANT SELECT, INSERT ON brands, skus, stock TO bridge_stock;
GRANT UPDATE (price) ON skus TO bridge_stock;
GRANT UPDATE (initial, available) ON stock TO bridge_stock;

-- bridge_catalogue: bridge-idc catalogue import and export. It brings in all that a storefront shows, and sees no order.
GRANT SELECT ON schema_migrations TO bridge_catalogue;
GRANT SELECT, INSERT ON brands, categories, products, product_categories, skus, stock TO bridge_catalogue;
GRANT UPDATE ON categories, products TO bridge_catalogue;
GRANT DELETE ON product_categories TO bridge_catalogue;
GRANT UPDATE (price, product, options, position) ON skus TO bridge_catalogue;
GRANT UPDATE (initial, available) ON stock TO bridge_catalogue;

-- bridge_personal: bridge-idc personal show, for a DBA. It reads ciphertext, and records each reading.
GRANT SELECT ON orders, order_personal TO bridge_personal;
GRANT INSERT ON personal_access TO bridge_personal;
