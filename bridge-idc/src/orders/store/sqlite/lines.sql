-- Returns the lines of these orders. The lines of one order are in their order.
SELECT order_lines.order_id, skus.sku, order_lines.quantity, order_lines.unit_price
FROM order_lines
JOIN skus ON skus.sku_id = order_lines.sku_id
WHERE order_lines.order_id IN (SELECT unhex(value) FROM json_each($1))
ORDER BY order_lines.order_id, order_lines.line_no
