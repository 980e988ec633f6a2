-- The stock of these SKUs ($1, each brand and sku) and of these rows ($2). BEGIN IMMEDIATE has locked it all.
WITH wanted (sku_id) AS (
    SELECT skus.sku_id
    FROM json_each($1) AS named
    CROSS JOIN skus ON skus.brand = named.value ->> 0 AND skus.sku = named.value ->> 1
    UNION
    SELECT value FROM json_each($2)
)
SELECT skus.sku_id, skus.brand, skus.sku, skus.price, brands.currency, stock.available
FROM wanted
CROSS JOIN skus USING (sku_id)
CROSS JOIN brands USING (brand)
CROSS JOIN stock USING (sku_id)
