INSERT INTO skus (brand, sku, price, product, options, position)
SELECT new.brand, new.sku, new.price, new.product, coalesce(new.options, '{}'), new.position
FROM jsonb_to_recordset(CAST($1::text AS jsonb))
    AS new (brand text, sku text, price bigint, product text, options jsonb, position integer)
ON CONFLICT (brand, sku) DO NOTHING
