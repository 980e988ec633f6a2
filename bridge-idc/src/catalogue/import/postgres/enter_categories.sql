INSERT INTO product_categories (brand, product, category)
SELECT new.brand, new.product, category
FROM jsonb_to_recordset(CAST($1::text AS jsonb)) AS new (brand text, product text, categories jsonb)
CROSS JOIN LATERAL jsonb_array_elements_text(new.categories) AS category
ON CONFLICT (brand, product, category) DO NOTHING
