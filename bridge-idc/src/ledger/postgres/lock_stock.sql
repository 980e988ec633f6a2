-- Locks the stock of these SKUs ($1 brand, $2 sku) and of these rows ($3), in one order for every writer.
SELECT skus.sku_id, skus.brand, skus.sku, skus.price, brands.currency, stock.available
FROM skus
JOIN brands USING (brand)
JOIN stock USING (sku_id)
WHERE skus.sku_id IN (
    SELECT wanted.sku_id
    FROM skus AS wanted
    JOIN UNNEST($1::text[], $2::text[]) AS named (brand, sku) ON wanted.brand = named.brand AND wanted.sku = named.sku
    UNION
    SELECT UNNEST($3::bigint[])
)
ORDER BY skus.sku_id
FOR UPDATE OF stock
