INSERT INTO products (brand, product, names, descriptions, document, images, published_from, published_until)
SELECT
    value ->> 'brand', value ->> 'product',
    coalesce(nullif(value -> 'names', 'null'), '{}'), coalesce(nullif(value -> 'descriptions', 'null'), '{}'),
    coalesce(nullif(value -> 'document', 'null'), '{}'), coalesce(nullif(value -> 'images', 'null'), '[]'),
    value ->> 'published_from', value ->> 'published_until'
FROM json_each($1)
WHERE true
ON CONFLICT (brand, product) DO NOTHING
