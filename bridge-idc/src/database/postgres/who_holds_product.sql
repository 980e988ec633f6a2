-- The transaction that holds a product ($1 brand, $2 product), found as in who_holds_sku.sql. It is
-- a query of its own because the role that imports stock may not read products.
SELECT activity.pid, coalesce(activity.usename::text, ''), coalesce(activity.application_name, '')
FROM pg_locks AS held
JOIN pg_stat_activity AS activity ON activity.pid = held.pid
WHERE held.locktype = 'transactionid' AND held.granted AND held.transactionid IN (
    SELECT products.xmax FROM products WHERE products.brand = $1 AND products.product = $2
)
LIMIT 1
