-- The transaction that holds a SKU ($1 brand, $2 sku) or its stock, found by the row's xmax. If
-- several transactions share the lock, xmax names none of them.
SELECT activity.pid, coalesce(activity.usename::text, ''), coalesce(activity.application_name, '')
FROM pg_locks AS held
JOIN pg_stat_activity AS activity ON activity.pid = held.pid
WHERE held.locktype = 'transactionid' AND held.granted AND held.transactionid IN (
    SELECT skus.xmax FROM skus WHERE skus.brand = $1 AND skus.sku = $2
    UNION ALL
    SELECT stock.xmax FROM stock JOIN skus USING (sku_id) WHERE skus.brand = $1 AND skus.sku = $2
)
LIMIT 1
