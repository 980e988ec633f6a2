-- Returns the SKUs of brand $1 among these ($2, a JSON list).
SELECT skus.sku
FROM json_each($2) AS wanted
CROSS JOIN skus ON skus.brand = $1 AND skus.sku = wanted.value
