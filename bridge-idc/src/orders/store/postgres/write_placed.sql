-- Writes placed orders ($1 to $8), their lines ($9 to $13) and their personal data ($14 to $25).
-- Moves units from available to sold, or back if negative ($26, $27), but never below zero. Returns
-- the number of rows that had the units. All values were decided under the locks, and no part reads
-- what another part writes, so this one statement is as safe as four.
WITH placed AS (
    INSERT INTO orders (order_id, brand, position, customer_reference, currency, shipping_fee, total, committed_at)
    SELECT new.*, $8
    FROM UNNEST($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[]) AS new
), lines AS (
    INSERT INTO order_lines (order_id, line_no, sku_id, quantity, unit_price)
    SELECT * FROM UNNEST($9::uuid[], $10::integer[], $11::bigint[], $12::bigint[], $13::bigint[])
), personal AS (
    INSERT INTO order_personal (
        order_id, key_version, wrapped_key, customer_name, customer_phone, customer_email,
        delivery_name, delivery_phone, delivery_postal_code, delivery_address, delivery_country, delivery_note
    )
    SELECT * FROM UNNEST(
        $14::uuid[], $15::integer[], $16::bytea[], $17::bytea[], $18::bytea[], $19::bytea[],
        $20::bytea[], $21::bytea[], $22::bytea[], $23::bytea[], $24::bytea[], $25::bytea[]
    )
), moved AS (
    UPDATE stock
    SET available = stock.available - moves.units, sold = stock.sold + moves.units
    FROM UNNEST($26::bigint[], $27::bigint[]) AS moves (sku_id, units)
    WHERE stock.sku_id = moves.sku_id AND stock.available >= moves.units
    RETURNING stock.sku_id
)
SELECT count(*) FROM moved
