-- Returns the allocated units of these orders.
SELECT order_id, sku_id, quantity FROM order_lines WHERE order_id IN (SELECT unhex(value) FROM json_each($1))
