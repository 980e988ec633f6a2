-- The rights that Bridge needs on its ledger, and no others. Run this file after each
--     bridge-idc migrate
-- as a superuser, or as the owner of the tables with CREATEROLE. It is safe to run it again:
--     psql --set ON_ERROR_STOP=1 --single-transaction --file role.sql DATABASE
-- The file creates four roles without a login. Grant them to logins of your own:
--     CREATE ROLE bridge_agent LOGIN PASSWORD '...' IN ROLE bridge_serve;
-- Then give the agent that login, set ledger.migrate = false, and run the migrations as the owner.
--
-- No role may DELETE or TRUNCATE, except a product's categories. No role may change an outcome, a
-- line of an order or a ciphertext.

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

-- bridge_serve is for bridge-idc serve. It commits orders and looks them up. It writes personal
-- data and cannot read it: it has no SELECT on order_personal.
GRANT SELECT ON schema_migrations, brands, skus, stock, outcomes, orders, order_lines TO bridge_serve;
GRANT INSERT ON outcomes, orders, order_lines, order_personal TO bridge_serve;
GRANT UPDATE (available, sold) ON stock TO bridge_serve;
GRANT UPDATE (state, cancelled_at) ON orders TO bridge_serve;
-- The agent reads launches, counts what they sell, and can change nothing else of them.
GRANT SELECT ON launches, launch_skus, launch_sales, launch_purchases TO bridge_serve;
GRANT UPDATE (sold) ON launch_sales TO bridge_serve;
GRANT INSERT, UPDATE (given_back_at) ON launch_purchases TO bridge_serve;
-- The agent compares its keys with those that the ledger was written with.
GRANT SELECT, INSERT ON key_checks TO bridge_serve;
-- The agent pays and refunds. It can change the state of a payment or a refund, but never its order
-- or its amount.
GRANT SELECT, INSERT ON payments, refunds, payment_requests TO bridge_serve;
GRANT UPDATE (state, refunded, code, asks, next_ask_at, look_at, concluded_at, confirm_until) ON payments TO bridge_serve;
GRANT UPDATE (state, code, asks, next_ask_at, concluded_at, give_back_until, look_at) ON refunds TO bridge_serve;
-- The agent publishes the catalogue. Only these columns of the catalogue's tables can reach a
-- storefront.
GRANT SELECT (brand, category, parent, names, position) ON categories TO bridge_serve;
GRANT SELECT (brand, product, names, descriptions, document, images, published_from, published_until)
    ON products TO bridge_serve;
GRANT SELECT (brand, product, category) ON product_categories TO bridge_serve;
-- The agent numbers changes of the catalogue. These functions are its only way to write to that
-- log.
GRANT SELECT ON catalogue_sequencer, catalogue_changes, catalogue_pending TO bridge_serve;
GRANT EXECUTE ON FUNCTION catalogue_sequence, catalogue_forget TO bridge_serve;

-- bridge_stock is for bridge-idc stock import. It imports brands, SKUs, prices and units, and
-- cannot read orders.
GRANT SELECT, INSERT ON brands, skus, stock TO bridge_stock;
GRANT UPDATE (price) ON skus TO bridge_stock;
GRANT UPDATE (initial, available) ON stock TO bridge_stock;

-- bridge_catalogue is for bridge-idc catalogue import and export, and for bridge-idc launch. It reads
-- and writes everything that a storefront shows, and cannot read orders.
GRANT SELECT ON schema_migrations TO bridge_catalogue;
GRANT SELECT, INSERT ON brands, categories, products, product_categories, skus, stock TO bridge_catalogue;
GRANT UPDATE ON categories, products TO bridge_catalogue;
GRANT DELETE ON product_categories TO bridge_catalogue;
GRANT UPDATE (price, product, options, position) ON skus TO bridge_catalogue;
GRANT UPDATE (initial, available) ON stock TO bridge_catalogue;
GRANT SELECT, INSERT ON launches, launch_skus TO bridge_catalogue;
GRANT UPDATE (ended_at) ON launches TO bridge_catalogue;
GRANT UPDATE (selling) ON launch_skus TO bridge_catalogue;
GRANT SELECT, INSERT ON launch_sales TO bridge_catalogue;

-- bridge_personal is for bridge-idc personal show, run by a DBA. It reads ciphertext, and records
-- each access.
GRANT SELECT ON orders, order_personal TO bridge_personal;
GRANT INSERT ON personal_access TO bridge_personal;
