INSERT INTO stock (sku_id, initial, available, sold)
SELECT skus.sku_id, 0, 0, 0
FROM json_each($1) AS new
JOIN skus ON skus.brand = new.value ->> 'brand' AND skus.sku = new.value ->> 'sku'
WHERE true
ON CONFLICT (sku_id) DO NOTHING
