-- Returns a row with the currency of each of these brands ($1), and the offers of SKUs by name ($2
-- brand, $3 sku) and by row ($4). It must be a statement after the lock: a statement that waits for
-- a lock sees all other tables as they were before its wait.
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
