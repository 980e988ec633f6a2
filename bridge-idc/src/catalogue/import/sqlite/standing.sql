-- Selects the present state of these SKUs: product, position, price, options and units. Locks
-- nothing.
SELECT skus.brand, skus.sku, skus.product, skus.position, skus.price, skus.options, stock.available
FROM json_each($1) AS new
CROSS JOIN skus ON skus.brand = new.value ->> 'brand' AND skus.sku = new.value ->> 'sku'
LEFT JOIN stock ON stock.sku_id = skus.sku_id
