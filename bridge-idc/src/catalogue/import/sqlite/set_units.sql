-- So many units are available from now on; without a number, none of a new SKU.
INSERT INTO stock (sku_id, initial, available, sold)
SELECT skus.sku_id, new.value ->> 'quantity', new.value ->> 'quantity', 0
FROM json_each($1) AS new
JOIN skus ON skus.brand = new.value ->> 'brand' AND skus.sku = new.value ->> 'sku'
WHERE new.value ->> 'quantity' IS NOT NULL
ON CONFLICT (sku_id) DO UPDATE SET initial = excluded.available + stock.sold, available = excluded.available
    WHERE stock.available <> excluded.available
