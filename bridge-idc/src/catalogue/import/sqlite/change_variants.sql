-- A SKU that became a variant of another product meanwhile stays with that product.
UPDATE skus
SET price = new.price,
    product = new.product,
    options = coalesce(new.options, skus.options),
    position = new.position
FROM (
    SELECT
        value ->> 'brand' AS brand, value ->> 'sku' AS sku, value ->> 'price' AS price,
        value ->> 'product' AS product, nullif(value -> 'options', 'null') AS options, value ->> 'position' AS position
    FROM json_each($1)
) AS new
WHERE skus.brand = new.brand AND skus.sku = new.sku
    AND coalesce(skus.product, new.product) = new.product
    AND (
        new.price IS NOT skus.price OR new.product IS NOT skus.product
        OR coalesce(new.options, skus.options) IS NOT skus.options OR new.position IS NOT skus.position
    )
