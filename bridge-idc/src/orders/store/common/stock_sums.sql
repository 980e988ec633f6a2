SELECT skus.sku, stock.initial, stock.available, stock.sold
FROM skus
JOIN stock ON stock.sku_id = skus.sku_id
WHERE skus.brand = $1
ORDER BY skus.sku
