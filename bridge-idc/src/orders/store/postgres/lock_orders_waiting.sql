-- As lock_orders.sql, and waits for a row that somebody else holds.
SELECT order_id FROM orders WHERE order_id = ANY($1) ORDER BY order_id FOR NO KEY UPDATE
