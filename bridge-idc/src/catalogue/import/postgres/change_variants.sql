-- A SKU that became a variant of another product meanwhile stays with that product.
UPDATE skus
SET price = new.price,
    product = new.product,
    options = coalesce(new.options, skus.options),
    position = new.position
FROM jsonb_to_recordset(CAST($1::text AS jsonb))
    AS new (brand text, sku text, price bigint, product text, options jsonb, position integer)
WHERE skus.brand = new.brand AND skus.sku = new.sku
    AND coalesce(skus.product, new.product) = new.product
    AND (skus.price, skus.product, skus.options, skus.position)
        IS DISTINCT FROM (new.price, new.product, coalesce(new.options, skus.options), new.position)
