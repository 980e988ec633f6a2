SELECT skus.sku, launch_skus.customer_limit
FROM launch_skus
JOIN skus USING (sku_id)
WHERE launch_skus.launch_id = $1
ORDER BY skus.sku
