UPDATE categories
SET parent = coalesce(new.parent, categories.parent),
    names = coalesce(new.names, categories.names),
    position = coalesce(new.position, categories.position)
FROM jsonb_to_recordset(CAST($1::text AS jsonb))
    AS new (brand text, category text, parent text, names jsonb, position integer)
WHERE categories.brand = new.brand AND categories.category = new.category
    AND (categories.parent, categories.names, categories.position) IS DISTINCT FROM (
        coalesce(new.parent, categories.parent),
        coalesce(new.names, categories.names),
        coalesce(new.position, categories.position)
    )
