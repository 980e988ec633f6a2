-- Selects the present state of these SKUs: product, position, price, options and units. Locks
-- nothing.
SELECT skus.brand, skus.sku, skus.product, skus.position, skus.price, skus.options::text, stock.available
FROM skus
JOIN jsonb_to_recordset(CAST($1::text AS jsonb)) AS new (brand text, sku text)
    ON skus.brand = new.brand AND skus.sku = new.sku
LEFT JOIN stock ON stock.sku_id = skus.sku_id
