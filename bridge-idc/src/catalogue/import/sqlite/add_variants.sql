-- Inserts only missing SKUs: a trigger notes a SKU as changed even if its INSERT has a conflict and
-- does nothing.
INSERT INTO skus (brand, sku, price, product, options, position)
SELECT
    value ->> 'brand', value ->> 'sku', value ->> 'price', value ->> 'product',
    coalesce(nullif(value -> 'options', 'null'), '{}'), value ->> 'position'
FROM json_each($1)
WHERE NOT EXISTS (SELECT 1 FROM skus WHERE skus.brand = value ->> 'brand' AND skus.sku = value ->> 'sku')
