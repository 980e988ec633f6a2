INSERT INTO stock (sku_id, initial, available, sold)
SELECT skus.sku_id, 0, 0, 0
FROM skus
JOIN jsonb_to_recordset(CAST($1::text AS jsonb)) AS new (brand text, sku text)
    ON skus.brand = new.brand AND skus.sku = new.sku
ORDER BY skus.sku_id
ON CONFLICT (sku_id) DO NOTHING
