INSERT INTO categories (brand, category, parent, names, position)
SELECT
    value ->> 'brand', value ->> 'category', value ->> 'parent',
    coalesce(nullif(value -> 'names', 'null'), '{}'), coalesce(value ->> 'position', 0)
FROM json_each($1)
WHERE true
ON CONFLICT (brand, category) DO NOTHING
