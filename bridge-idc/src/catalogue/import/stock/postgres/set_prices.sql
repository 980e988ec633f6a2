UPDATE skus
SET price = new.price
FROM UNNEST($1::text[], $2::text[], $3::bigint[]) AS new (brand, sku, price)
WHERE skus.brand = new.brand AND skus.sku = new.sku AND skus.price <> new.price
