-- Sets the available units.
INSERT INTO stock (sku_id, initial, available, sold)
SELECT skus.sku_id, new.quantity, new.quantity, 0
FROM (SELECT value ->> 0 AS brand, value ->> 1 AS sku, value ->> 2 AS quantity FROM json_each($1)) AS new
CROSS JOIN skus ON skus.brand = new.brand AND skus.sku = new.sku
WHERE true
ON CONFLICT (sku_id) DO UPDATE SET initial = excluded.available + stock.sold, available = excluded.available
