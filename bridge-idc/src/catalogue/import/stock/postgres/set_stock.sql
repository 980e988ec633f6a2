-- So many units are available from now on. Sorted, as every writer takes its locks.
INSERT INTO stock (sku_id, initial, available, sold)
SELECT skus.sku_id, new.quantity, new.quantity, 0
FROM skus
JOIN UNNEST($1::text[], $2::text[], $3::bigint[]) AS new (brand, sku, quantity)
    ON skus.brand = new.brand AND skus.sku = new.sku
ORDER BY skus.sku_id
ON CONFLICT (sku_id) DO UPDATE SET initial = excluded.available + stock.sold, available = excluded.available
