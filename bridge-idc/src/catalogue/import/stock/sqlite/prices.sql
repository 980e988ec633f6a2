-- What these SKUs cost, of those that are there.
SELECT skus.brand, skus.sku, skus.price
FROM json_each($1) AS named
CROSS JOIN skus ON skus.brand = named.value ->> 0 AND skus.sku = named.value ->> 1
