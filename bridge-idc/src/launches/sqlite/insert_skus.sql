-- Adds SKUs of brand $2 to a launch ($1): pairs of SKU and limit a customer ($3, a JSON list).
INSERT INTO launch_skus (launch_id, sku_id, customer_limit)
SELECT $1, skus.sku_id, wanted.value ->> 1
FROM json_each($3) AS wanted
CROSS JOIN skus ON skus.brand = $2 AND skus.sku = wanted.value ->> 0
