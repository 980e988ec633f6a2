-- The prices of the existing ones of these SKUs.
SELECT skus.brand, skus.sku, skus.price
FROM jsonb_array_elements(CAST($1::text AS jsonb)) AS named
JOIN skus ON skus.brand = named ->> 0 AND skus.sku = named ->> 1
