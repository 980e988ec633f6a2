-- How these SKUs stand: whose they are and their places there, their prices, options and units. Nothing is locked.
SELECT skus.brand, skus.sku, skus.product, skus.position, skus.price, skus.options, stock.available
FROM json_each($1) AS new
CROSS JOIN skus ON skus.brand = new.value ->> 'brand' AND skus.sku = new.value ->> 'sku'
LEFT JOIN stock ON stock.sku_id = skus.sku_id
