SELECT stock.sku_id
FROM stock
JOIN skus USING (sku_id)
WHERE skus.brand = $1 AND skus.sku = $2
FOR UPDATE OF stock
