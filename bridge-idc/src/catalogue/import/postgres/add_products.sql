INSERT INTO products (brand, product, names, descriptions, document, images, published_from, published_until)
SELECT
    new.brand, new.product, coalesce(new.names, '{}'), coalesce(new.descriptions, '{}'),
    coalesce(new.document, '{}'), coalesce(new.images, '[]'), new.published_from, new.published_until
FROM jsonb_to_recordset(CAST($1::text AS jsonb)) AS new (
    brand text, product text, names jsonb, descriptions jsonb, document jsonb, images jsonb,
    published_from bigint, published_until bigint
)
ON CONFLICT (brand, product) DO NOTHING
