-- Selects these categories where they exist, each with 1 if the import would change it. The
-- comparison is the one of change_categories.sql.
SELECT
    categories.brand, categories.category,
    CAST((categories.parent, categories.names, categories.position) IS DISTINCT FROM (
        CASE WHEN new.sets_parent THEN new.parent ELSE categories.parent END,
        coalesce(new.names, categories.names),
        coalesce(new.position, categories.position)
    ) AS integer) AS changes
FROM categories
JOIN jsonb_to_recordset(CAST($1::text AS jsonb))
    AS new (brand text, category text, parent text, sets_parent boolean, names jsonb, position integer)
    ON categories.brand = new.brand AND categories.category = new.category
