INSERT INTO skus (brand, sku, price, product, options, position)
SELECT
    value ->> 'brand', value ->> 'sku', value ->> 'price', value ->> 'product',
    coalesce(nullif(value -> 'options', 'null'), '{}'), value ->> 'position'
FROM json_each($1)
WHERE true
ON CONFLICT (brand, sku) DO NOTHING
