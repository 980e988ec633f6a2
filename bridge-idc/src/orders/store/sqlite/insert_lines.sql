INSERT INTO order_lines (order_id, line_no, sku_id, quantity, unit_price)
SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each($1)
