-- Sets the available units. Rows without a number are skipped; open_units.sql gives a new SKU zero
-- units.
INSERT INTO stock (sku_id, initial, available, sold)
SELECT skus.sku_id, new.value ->> 'quantity', new.value ->> 'quantity', 0
FROM json_each($1) AS new
JOIN skus ON skus.brand = new.value ->> 'brand' AND skus.sku = new.value ->> 'sku'
WHERE new.value ->> 'quantity' IS NOT NULL
ON CONFLICT (sku_id) DO UPDATE SET initial = excluded.available + stock.sold, available = excluded.available
    WHERE stock.available <> excluded.available
