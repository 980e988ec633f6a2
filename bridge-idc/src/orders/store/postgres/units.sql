-- Returns the allocated units of these orders, with the launch that sold them and its customer. Lines
-- never change, so this needs no lock. LATERAL handles one line at a time, so that each uses the
-- index, also before the table was analysed for the first time.
SELECT lines.order_id, lines.sku_id, lines.quantity, purchase.launch_id, purchase.customer
FROM order_lines AS lines
LEFT JOIN LATERAL (
    SELECT own.launch_id, own.customer
    FROM launch_purchases AS own
    WHERE own.order_id = lines.order_id AND own.sku_id = lines.sku_id
    OFFSET 0
) AS purchase ON true
WHERE lines.order_id = ANY($1)
