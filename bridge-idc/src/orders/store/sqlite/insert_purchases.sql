INSERT INTO launch_purchases (order_id, sku_id, launch_id, customer, units)
SELECT unhex(value ->> 0), value ->> 1, value ->> 2, unhex(value ->> 3), value ->> 4 FROM json_each($1)
