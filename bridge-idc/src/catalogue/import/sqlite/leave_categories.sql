DELETE FROM product_categories
WHERE (brand, product) IN (SELECT value ->> 'brand', value ->> 'product' FROM json_each($1))
    AND (brand, product, category) NOT IN (
        SELECT new.value ->> 'brand', new.value ->> 'product', category.value
        FROM json_each($1) AS new, json_each(new.value -> 'categories') AS category
    )
