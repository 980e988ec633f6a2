-- Returns the allocated units of these orders. Lines never change, so this needs no lock.
SELECT order_id, sku_id, quantity FROM order_lines WHERE order_id = ANY($1)
