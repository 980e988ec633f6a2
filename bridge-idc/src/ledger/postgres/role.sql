-- The rights that Bridge needs on its ledger, and no more. Run once by the owner of the tables, after
--     bridge-idc migrate
-- as a superuser or with CREATEROLE:
--     psql --single-transaction --file role.sql DATABASE
-- It makes three roles without a login, which you grant to logins of your own:
--     CREATE ROLE bridge_agent LOGIN PASSWORD '...' IN ROLE bridge_serve;
-- With this set up, give the agent that login, set ledger.migrate = false, and migrate as the owner.
--
-- Nobody here may DELETE or TRUNCATE anything, change an outcome, a line or a ciphertext.

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['bridge_serve', 'bridge_stock', 'bridge_personal'] LOOP
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

-- bridge_stock: bridge-idc stock import. It brings in brands, SKUs, prices and units, and sees no order.
GRANT SELECT, INSERT ON brands, skus, stock TO bridge_stock;
GRANT UPDATE (price) ON skus TO bridge_stock;
GRANT UPDATE (initial, available) ON stock TO bridge_stock;

-- bridge_personal: bridge-idc personal show, for a DBA. It reads ciphertext, and records each reading.
GRANT SELECT ON orders, order_personal TO bridge_personal;
GRANT INSERT ON personal_access TO bridge_personal;
