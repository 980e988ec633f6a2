-- Returns the SKUs of brand $1 among these ($2, a JSON list).
SELECT skus.sku
FROM json_array_elements_text($2::json) AS wanted (sku)
JOIN skus ON skus.brand = $1 AND skus.sku = wanted.sku
