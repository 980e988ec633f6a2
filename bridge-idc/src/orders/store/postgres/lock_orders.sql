-- Locks these orders against payments and other cancellations, and says which it got. A row that somebody else holds is left
-- out and not waited for.
SELECT order_id FROM orders WHERE order_id = ANY($1) ORDER BY order_id FOR NO KEY UPDATE SKIP LOCKED
