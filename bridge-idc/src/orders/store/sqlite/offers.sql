-- Returns a row with the currency of each of these brands ($1), and the offers of SKUs by name ($2,
-- pairs of brand and sku) and by row ($3). An offer has the launch that sells the SKU now or next,
-- with the time until it opens. BEGIN IMMEDIATE has locked the whole database.
WITH wanted (sku_id) AS (
    SELECT skus.sku_id
    FROM json_each($2) AS named
    CROSS JOIN skus ON skus.brand = named.value ->> 0 AND skus.sku = named.value ->> 1
    UNION
    SELECT value FROM json_each($3)
), clock (now) AS (
    SELECT CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)
)
SELECT brand, currency, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM brands
WHERE brand IN (SELECT value FROM json_each($1))
UNION ALL
SELECT
    brands.brand, brands.currency, skus.sku_id, skus.sku, skus.price, stock.available,
    launches.launch_id, launches.opens_at, launches.opens_at - clock.now, launches.customer_limit,
    launch_skus.customer_limit, launches.units - launch_sales.sold
FROM wanted
CROSS JOIN skus USING (sku_id)
CROSS JOIN brands USING (brand)
CROSS JOIN stock USING (sku_id)
CROSS JOIN clock
LEFT JOIN launches ON launches.launch_id = (
    SELECT live.launch_id
    FROM launch_skus AS sold
    CROSS JOIN launches AS live ON live.launch_id = sold.launch_id
    WHERE sold.sku_id = wanted.sku_id
        AND live.ended_at IS NULL
        AND coalesce(live.ends_at > clock.now, true)
    ORDER BY live.opens_at
    LIMIT 1
)
LEFT JOIN launch_skus ON launch_skus.launch_id = launches.launch_id AND launch_skus.sku_id = wanted.sku_id
LEFT JOIN launch_sales ON launch_sales.launch_id = launches.launch_id
