SELECT skus.sku_id FROM skus WHERE skus.brand = $1 AND skus.sku = $2 FOR NO KEY UPDATE
