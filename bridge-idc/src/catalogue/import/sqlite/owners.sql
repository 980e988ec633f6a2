-- Whose these SKUs are; those of no product yet belong to nobody.
SELECT brand, sku, product
FROM skus
WHERE (brand, sku) IN (SELECT value ->> 'brand', value ->> 'sku' FROM json_each($1)) AND product IS NOT NULL
