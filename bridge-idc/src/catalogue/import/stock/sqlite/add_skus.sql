INSERT INTO skus (brand, sku, price)
SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1) WHERE true
ON CONFLICT (brand, sku) DO NOTHING
