INSERT INTO categories (brand, category, parent, names, position)
SELECT new.brand, new.category, new.parent, coalesce(new.names, '{}'), coalesce(new.position, 0)
FROM jsonb_to_recordset(CAST($1::text AS jsonb))
    AS new (brand text, category text, parent text, names jsonb, position integer)
ON CONFLICT (brand, category) DO NOTHING
