-- The prices of the existing ones of these SKUs.
SELECT skus.brand, skus.sku, skus.price
FROM json_each($1) AS named
CROSS JOIN skus ON skus.brand = named.value ->> 0 AND skus.sku = named.value ->> 1
