-- Selects these products where they exist, each with 1 if the import would change it. The
-- comparison is the one of change_products.sql.
SELECT
    products.brand, products.product,
    CAST((
        products.names, products.descriptions, products.document, products.images,
        products.published_from, products.published_until
    ) IS DISTINCT FROM (
        coalesce(new.names, products.names),
        coalesce(new.descriptions, products.descriptions),
        coalesce(new.document, products.document),
        coalesce(new.images, products.images),
        CASE WHEN new.sets_from THEN new.published_from ELSE products.published_from END,
        CASE WHEN new.sets_until THEN new.published_until ELSE products.published_until END
    ) AS integer) AS changes,
    products.published_from, products.published_until
FROM products
JOIN jsonb_to_recordset(CAST($1::text AS jsonb)) AS new (
    brand text, product text, names jsonb, descriptions jsonb, document jsonb, images jsonb,
    published_from bigint, published_until bigint, sets_from boolean, sets_until boolean
) ON products.brand = new.brand AND products.product = new.product
