-- Returns a row with the currency of each of these brands ($1), and the offers of SKUs by name ($2,
-- pairs of brand and sku) and by row ($3). BEGIN IMMEDIATE has locked the whole database.
WITH wanted (sku_id) AS (
    SELECT skus.sku_id
    FROM json_each($2) AS named
    CROSS JOIN skus ON skus.brand = named.value ->> 0 AND skus.sku = named.value ->> 1
    UNION
    SELECT value FROM json_each($3)
)
SELECT brand, currency, NULL, NULL, NULL, NULL FROM brands WHERE brand IN (SELECT value FROM json_each($1))
UNION ALL
SELECT brands.brand, brands.currency, skus.sku_id, skus.sku, skus.price, stock.available
FROM wanted
CROSS JOIN skus USING (sku_id)
CROSS JOIN brands USING (brand)
CROSS JOIN stock USING (sku_id)
