-- Selects these categories where they exist, each with 1 if the import would change it. The
-- comparison is the one of change_categories.sql.
SELECT
    categories.brand, categories.category,
    (
        iif(new.sets_parent, new.parent, categories.parent) IS NOT categories.parent
        OR coalesce(new.names, categories.names) IS NOT categories.names
        OR coalesce(new.position, categories.position) IS NOT categories.position
    ) AS changes
FROM (
    SELECT
        value ->> 'brand' AS brand, value ->> 'category' AS category, value ->> 'parent' AS parent,
        value ->> 'sets_parent' AS sets_parent,
        nullif(value -> 'names', 'null') AS names, value ->> 'position' AS position
    FROM json_each($1)
) AS new
CROSS JOIN categories ON categories.brand = new.brand AND categories.category = new.category
