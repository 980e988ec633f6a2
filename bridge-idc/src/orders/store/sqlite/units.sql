-- What these orders allocated.
SELECT order_id, sku_id, quantity FROM order_lines WHERE order_id IN (SELECT unhex(value) FROM json_each($1))
