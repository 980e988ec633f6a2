-- Writes the rows of a batch, all decided under the locks: outcomes, sorted by key ($2 to $13);
-- placed orders ($14 to $20), their lines ($21 to $25) and their personal data ($26 to $37); units
-- that stock moves from available to sold, or back if negative, but never below zero ($38, $39);
-- units of the orders that launches sold ($40 to $44); and units sold by launches, or back if
-- negative, but never above what a launch sells in all ($45, $46). $1 is the time.
--
-- Returns the positions of the outcomes in the order of their keys, the number of rows of orders,
-- lines, personal data and launches that were inserted, and the numbers of stock rows and of
-- launches that had the units. A key that was settled by another agent in the meantime gets
-- no position; then no order is written, and the caller rolls back.
--
-- The outcomes come first, because an order has the position of its outcome. No other part reads
-- what another part writes, so this one statement is as safe as several.
WITH settled AS (
    INSERT INTO outcomes (
        key, brand, operation, order_id, fingerprint, outcome, sku, price, currency, opens_at, customer_limit, bought,
        committed_at
    )
    SELECT new.*, $1
    FROM UNNEST(
        $2::bytea[], $3::text[], $4::text[], $5::uuid[], $6::bytea[], $7::text[], $8::text[], $9::bigint[], $10::text[],
        $11::bigint[], $12::bigint[], $13::bigint[]
    ) AS new
    ON CONFLICT (key) DO NOTHING
    RETURNING key, position
), numbered AS MATERIALIZED (
    SELECT coalesce(array_agg(settled.position ORDER BY settled.key), '{}') AS positions
    FROM settled
), placed AS (
    INSERT INTO orders (order_id, brand, position, customer_reference, currency, shipping_fee, total, committed_at)
    SELECT
        new.order_id, new.brand, numbered.positions[new.outcome], new.customer_reference, new.currency, new.shipping_fee,
        new.total, $1
    FROM numbered
    CROSS JOIN UNNEST($14::uuid[], $15::text[], $16::integer[], $17::text[], $18::text[], $19::bigint[], $20::bigint[])
        AS new (order_id, brand, outcome, customer_reference, currency, shipping_fee, total)
    WHERE cardinality(numbered.positions) = cardinality($2)
    RETURNING 1
), lines AS (
    INSERT INTO order_lines (order_id, line_no, sku_id, quantity, unit_price)
    SELECT * FROM UNNEST($21::uuid[], $22::integer[], $23::bigint[], $24::bigint[], $25::bigint[])
    RETURNING 1
), personal AS (
    INSERT INTO order_personal (
        order_id, key_version, wrapped_key, customer_name, customer_phone, customer_email,
        delivery_name, delivery_phone, delivery_postal_code, delivery_address, delivery_country, delivery_note
    )
    SELECT * FROM UNNEST(
        $26::uuid[], $27::integer[], $28::bytea[], $29::bytea[], $30::bytea[], $31::bytea[],
        $32::bytea[], $33::bytea[], $34::bytea[], $35::bytea[], $36::bytea[], $37::bytea[]
    )
    RETURNING 1
), moved AS (
    UPDATE stock
    SET available = stock.available - moves.units, sold = stock.sold + moves.units
    FROM UNNEST($38::bigint[], $39::bigint[]) AS moves (sku_id, units)
    WHERE stock.sku_id = moves.sku_id AND stock.available >= moves.units
    RETURNING stock.sku_id
), purchased AS (
    INSERT INTO launch_purchases (order_id, sku_id, launch_id, customer, units)
    SELECT * FROM UNNEST($40::uuid[], $41::bigint[], $42::bigint[], $43::bytea[], $44::bigint[])
    RETURNING 1
), launched AS (
    UPDATE launch_sales
    SET sold = launch_sales.sold + moves.units
    FROM UNNEST($45::bigint[], $46::bigint[]) AS moves (launch_id, units)
    JOIN launches USING (launch_id)
    WHERE launch_sales.launch_id = moves.launch_id
        AND (moves.units <= 0 OR coalesce(launch_sales.sold + moves.units <= launches.units, true))
    RETURNING launch_sales.launch_id
)
SELECT
    numbered.positions,
    (SELECT count(*) FROM placed) + (SELECT count(*) FROM lines) + (SELECT count(*) FROM personal)
        + (SELECT count(*) FROM purchased),
    (SELECT count(*) FROM moved),
    (SELECT count(*) FROM launched)
FROM numbered
