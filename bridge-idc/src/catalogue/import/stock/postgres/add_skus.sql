INSERT INTO skus (brand, sku, price)
SELECT * FROM UNNEST($1::text[], $2::text[], $3::bigint[])
ON CONFLICT (brand, sku) DO NOTHING
