-- Selects the prices of these SKUs, for the SKUs that exist.
SELECT skus.brand, skus.sku, skus.price
FROM jsonb_array_elements(CAST($1::text AS jsonb)) AS named
JOIN skus ON skus.brand = named ->> 0 AND skus.sku = named ->> 1
