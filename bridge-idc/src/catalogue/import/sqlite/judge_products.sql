-- Selects these products where they exist, each with 1 if the import would change it. The
-- comparison is the one of change_products.sql.
SELECT
    products.brand, products.product,
    (
        coalesce(new.names, products.names) IS NOT products.names
        OR coalesce(new.descriptions, products.descriptions) IS NOT products.descriptions
        OR coalesce(new.document, products.document) IS NOT products.document
        OR coalesce(new.images, products.images) IS NOT products.images
        OR iif(new.sets_from, new.published_from, products.published_from) IS NOT products.published_from
        OR iif(new.sets_until, new.published_until, products.published_until) IS NOT products.published_until
    ) AS changes,
    products.published_from, products.published_until
FROM (
    SELECT
        value ->> 'brand' AS brand, value ->> 'product' AS product,
        nullif(value -> 'names', 'null') AS names, nullif(value -> 'descriptions', 'null') AS descriptions,
        nullif(value -> 'document', 'null') AS document, nullif(value -> 'images', 'null') AS images,
        value ->> 'published_from' AS published_from, value ->> 'published_until' AS published_until,
        value ->> 'sets_from' AS sets_from, value ->> 'sets_until' AS sets_until
    FROM json_each($1)
) AS new
CROSS JOIN products ON products.brand = new.brand AND products.product = new.product
