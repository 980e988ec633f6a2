-- Returns the allocated units of these orders, with the launch that sold them and its customer.
SELECT lines.order_id, lines.sku_id, lines.quantity, purchases.launch_id, purchases.customer
FROM order_lines AS lines
LEFT JOIN launch_purchases AS purchases USING (order_id, sku_id)
WHERE lines.order_id IN (SELECT unhex(value) FROM json_each($1))
