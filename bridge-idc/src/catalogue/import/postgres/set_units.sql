-- Sets the available units. Rows without a number are skipped; open_units.sql gives a new SKU zero
-- units. The rows are sorted because every writer takes its locks in this order.
INSERT INTO stock (sku_id, initial, available, sold)
SELECT skus.sku_id, new.quantity, new.quantity, 0
FROM skus
JOIN jsonb_to_recordset(CAST($1::text AS jsonb)) AS new (brand text, sku text, quantity bigint)
    ON skus.brand = new.brand AND skus.sku = new.sku
WHERE new.quantity IS NOT NULL
ORDER BY skus.sku_id
ON CONFLICT (sku_id) DO UPDATE SET initial = excluded.available + stock.sold, available = excluded.available
    WHERE stock.available <> excluded.available
