-- Locks orders as lock_orders.sql does, but waits for a row that another session holds.
SELECT order_id FROM orders WHERE order_id = ANY($1) ORDER BY order_id FOR NO KEY UPDATE
