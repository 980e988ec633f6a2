INSERT INTO product_categories (brand, product, category)
SELECT new.value ->> 'brand', new.value ->> 'product', category.value
FROM json_each($1) AS new, json_each(new.value -> 'categories') AS category
WHERE true
ON CONFLICT (brand, product, category) DO NOTHING
