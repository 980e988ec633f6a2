-- What these brands ($1) sell in, a row each, and what they offer: SKUs by name ($2 brand, $3 sku) and by row ($4). Read in a
-- statement after the lock: one that locks sees every other table as it was before it waited.
SELECT brands.brand, brands.currency, NULL::bigint, NULL::text, NULL::bigint, NULL::bigint
FROM brands
WHERE brands.brand = ANY($1)
UNION ALL
SELECT brands.brand, brands.currency, skus.sku_id, skus.sku, skus.price, stock.available
FROM skus
JOIN brands USING (brand)
JOIN stock USING (sku_id)
WHERE skus.sku_id IN (
    SELECT wanted.sku_id
    FROM skus AS wanted
    JOIN UNNEST($2::text[], $3::text[]) AS named (brand, sku) ON wanted.brand = named.brand AND wanted.sku = named.sku
    UNION
    SELECT UNNEST($4::bigint[])
)
