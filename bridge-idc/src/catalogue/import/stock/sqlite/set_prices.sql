UPDATE skus
SET price = new.price
FROM (SELECT value ->> 0 AS brand, value ->> 1 AS sku, value ->> 2 AS price FROM json_each($1)) AS new
WHERE skus.brand = new.brand AND skus.sku = new.sku AND skus.price <> new.price
