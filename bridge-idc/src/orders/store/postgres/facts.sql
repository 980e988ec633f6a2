-- Returns the rows from which a batch is decided, in parts. It must be a statement after the locks: a
-- statement that waits for a lock sees all other tables as they were before its wait. One statement
-- is one round trip, and all parts see the same moment.
--
-- Part 0 has the currency of each of these brands ($1). Part 1 has the offers of SKUs by name ($2
-- brand, $3 sku) and by row ($4), each with the launch that sells the SKU now or next and the time
-- until it opens. Part 2 has the outcomes under these keys ($5). Part 3 has the state of these
-- orders ($6). Part 4 has the units of orders that stand which customers ($7 brand, $8 customer)
-- have from these launches of their brand ($9). LATERAL in part 4 handles one customer at a time, so
-- that each uses the index, also before the table was analysed for the first time; OFFSET 0 keeps the
-- planner from another order of joins.
SELECT
    0 AS part, brands.brand, brands.currency, NULL::bigint AS sku_id, NULL::text AS sku, NULL::bigint AS price,
    NULL::bigint AS available, NULL::bigint AS launch_id, NULL::bigint AS opens_at, NULL::bigint AS opens_in,
    NULL::bigint AS customer_limit, NULL::bigint AS sku_limit, NULL::bigint AS units, NULL::bytea AS key,
    NULL::uuid AS order_id, NULL::bytea AS fingerprint, NULL::text AS outcome, NULL::bigint AS position,
    NULL::bigint AS committed_at, NULL::bigint AS bought, NULL::bytea AS customer
FROM brands
WHERE brands.brand = ANY($1)
UNION ALL
SELECT
    1, brands.brand, brands.currency, skus.sku_id, skus.sku, skus.price,
    stock.available, launch.launch_id, launch.opens_at, launch.opens_at - launch.now,
    launch.customer_limit, launch.sku_limit, launch.units_left, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM skus
JOIN brands USING (brand)
JOIN stock USING (sku_id)
LEFT JOIN LATERAL (
    SELECT
        launches.launch_id, launches.opens_at, launches.customer_limit, clock.now,
        launch_skus.customer_limit AS sku_limit, launches.units - launch_sales.sold AS units_left
    FROM launch_skus
    JOIN launches USING (launch_id)
    JOIN launch_sales USING (launch_id)
    CROSS JOIN (SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) AS now) AS clock
    -- The first condition is tested once a statement: without a launch that has not ended, no SKU is
    -- looked up.
    WHERE (
        SELECT EXISTS (
            SELECT
            FROM launch_skus AS known
            WHERE known.selling && int8range(CAST(extract(epoch FROM statement_timestamp()) * 1000000 AS bigint), NULL)
        )
    )
        AND launch_skus.sku_id = skus.sku_id
        AND NOT isempty(launch_skus.selling)
        AND coalesce(launches.ends_at > clock.now, true)
    ORDER BY launches.opens_at
    LIMIT 1
) AS launch ON true
WHERE skus.sku_id IN (
    SELECT wanted.sku_id
    FROM skus AS wanted
    JOIN UNNEST($2::text[], $3::text[]) AS named (brand, sku) ON wanted.brand = named.brand AND wanted.sku = named.sku
    UNION
    SELECT UNNEST($4::bigint[])
)
UNION ALL
SELECT
    2, NULL, outcomes.currency, NULL, outcomes.sku, outcomes.price,
    NULL, NULL, outcomes.opens_at, NULL,
    outcomes.customer_limit, NULL, NULL, outcomes.key,
    outcomes.order_id, outcomes.fingerprint, outcomes.outcome, outcomes.position,
    outcomes.committed_at, outcomes.bought, NULL
FROM outcomes
WHERE outcomes.key = ANY($5)
UNION ALL
SELECT
    3, outcomes.brand, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    outcomes.order_id, NULL, coalesce(orders.state, 'rejected'), NULL, NULL, NULL, NULL
FROM outcomes
LEFT JOIN orders ON orders.order_id = outcomes.order_id
WHERE outcomes.operation = 'place' AND outcomes.order_id = ANY($6)
UNION ALL
SELECT
    4, NULL, NULL, bought.sku_id, NULL, NULL, NULL, bought.launch_id, NULL, NULL, NULL, NULL, bought.units, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, bought.customer
FROM (SELECT locked.launch_id, locked.brand FROM launches AS locked WHERE locked.launch_id = ANY($9) OFFSET 0) AS launches
JOIN UNNEST($7::text[], $8::bytea[]) AS wanted (brand, customer) ON wanted.brand = launches.brand
CROSS JOIN LATERAL (
    SELECT own.launch_id, own.customer, own.sku_id, own.units
    FROM launch_purchases AS own
    WHERE own.launch_id = launches.launch_id AND own.customer = wanted.customer AND own.given_back_at IS NULL
    OFFSET 0
) AS bought
