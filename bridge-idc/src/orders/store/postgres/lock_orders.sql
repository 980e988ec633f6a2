-- Locks these orders against payments and other cancellations. Returns the locked ones. A row that
-- another session holds is skipped.
SELECT order_id FROM orders WHERE order_id = ANY($1) ORDER BY order_id FOR NO KEY UPDATE SKIP LOCKED
