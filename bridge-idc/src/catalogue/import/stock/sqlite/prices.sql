-- Selects the prices of these SKUs, for the SKUs that exist.
SELECT skus.brand, skus.sku, skus.price
FROM json_each($1) AS named
CROSS JOIN skus ON skus.brand = named.value ->> 0 AND skus.sku = named.value ->> 1
