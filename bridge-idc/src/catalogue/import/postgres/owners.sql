-- Whose these SKUs are, and their places among its variants; those of no product yet belong to nobody.
SELECT skus.brand, skus.sku, skus.product, skus.position
FROM skus
JOIN jsonb_to_recordset(CAST($1::text AS jsonb)) AS new (brand text, sku text)
    ON skus.brand = new.brand AND skus.sku = new.sku
WHERE skus.product IS NOT NULL
