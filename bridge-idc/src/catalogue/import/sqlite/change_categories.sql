UPDATE categories
SET parent = iif(new.sets_parent, new.parent, categories.parent),
    names = coalesce(new.names, categories.names),
    position = coalesce(new.position, categories.position)
FROM (
    SELECT
        value ->> 'brand' AS brand, value ->> 'category' AS category, value ->> 'parent' AS parent,
        value ->> 'sets_parent' AS sets_parent,
        nullif(value -> 'names', 'null') AS names, value ->> 'position' AS position
    FROM json_each($1)
) AS new
WHERE categories.brand = new.brand AND categories.category = new.category
    AND (
        iif(new.sets_parent, new.parent, categories.parent) IS NOT categories.parent
        OR coalesce(new.names, categories.names) IS NOT categories.names
        OR coalesce(new.position, categories.position) IS NOT categories.position
    )
