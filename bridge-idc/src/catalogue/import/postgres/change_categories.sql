UPDATE categories
SET parent = CASE WHEN new.sets_parent THEN new.parent ELSE categories.parent END,
    names = coalesce(new.names, categories.names),
    position = coalesce(new.position, categories.position)
FROM jsonb_to_recordset(CAST($1::text AS jsonb))
    AS new (brand text, category text, parent text, sets_parent boolean, names jsonb, position integer)
WHERE categories.brand = new.brand AND categories.category = new.category
    AND (categories.parent, categories.names, categories.position) IS DISTINCT FROM (
        CASE WHEN new.sets_parent THEN new.parent ELSE categories.parent END,
        coalesce(new.names, categories.names),
        coalesce(new.position, categories.position)
    )
