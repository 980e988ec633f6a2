-- Sets the available units. The rows are sorted because every writer takes its locks in this order.
INSERT INTO stock (sku_id, initial, available, sold)
SELECT skus.sku_id, new.quantity, new.quantity, 0
FROM skus
JOIN UNNEST($1::text[], $2::text[], $3::bigint[]) AS new (brand, sku, quantity)
    ON skus.brand = new.brand AND skus.sku = new.sku
ORDER BY skus.sku_id
ON CONFLICT (sku_id) DO UPDATE SET initial = excluded.available + stock.sold, available = excluded.available
