-- Locks stock as lock_stock.sql does, but waits for a row that another session holds.
SELECT stock.sku_id
FROM stock
WHERE stock.sku_id IN (
    SELECT wanted.sku_id
    FROM skus AS wanted
    JOIN UNNEST($1::text[], $2::text[]) AS named (brand, sku) ON wanted.brand = named.brand AND wanted.sku = named.sku
    UNION
    SELECT UNNEST($3::bigint[])
)
ORDER BY stock.sku_id
FOR UPDATE
