-- Locks an order, and returns its state and its total. Every change of its payments takes this lock
-- first. If another session holds it, the statement fails, and the caller waits without a
-- connection and tries again.
SELECT brand, state, currency, total FROM orders WHERE order_id = $1 FOR NO KEY UPDATE NOWAIT
