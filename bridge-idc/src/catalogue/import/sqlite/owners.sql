-- Whose these SKUs are, and their places among its variants; those of no product yet belong to nobody.
SELECT brand, sku, product, position
FROM skus
WHERE (brand, sku) IN (SELECT value ->> 'brand', value ->> 'sku' FROM json_each($1)) AND product IS NOT NULL
