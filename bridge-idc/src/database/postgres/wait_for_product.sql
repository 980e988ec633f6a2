SELECT products.product FROM products WHERE products.brand = $1 AND products.product = $2 FOR NO KEY UPDATE
