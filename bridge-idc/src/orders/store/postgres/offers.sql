-- Returns a row with the currency of each of these brands ($1), and the offers of SKUs by name ($2
-- brand, $3 sku) and by row ($4). An offer has the launch that sells the SKU now or next, with the
-- time until it opens. It must be a statement after the lock: a statement that waits for a lock sees
-- all other tables as they were before its wait.
SELECT
    brands.brand, brands.currency, NULL::bigint, NULL::text, NULL::bigint, NULL::bigint,
    NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint
FROM brands
WHERE brands.brand = ANY($1)
UNION ALL
SELECT
    brands.brand, brands.currency, skus.sku_id, skus.sku, skus.price, stock.available,
    launch.launch_id, launch.opens_at, launch.opens_at - launch.now, launch.customer_limit, launch.sku_limit,
    launch.units_left
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
    -- The first condition is tested once a statement: without a launch no SKU is looked up.
    WHERE (SELECT EXISTS (SELECT FROM launch_skus AS known WHERE NOT isempty(known.selling)))
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
