DELETE FROM product_categories
USING jsonb_to_recordset(CAST($1::text AS jsonb)) AS new (brand text, product text, categories jsonb)
WHERE product_categories.brand = new.brand AND product_categories.product = new.product
    AND NOT new.categories ? product_categories.category
