-- Locks an order, behind which all that happens to its payments waits; how it stands, and what it comes to. Whoever finds it held
-- waits without a connection, and tries again.
SELECT brand, state, currency, total FROM orders WHERE order_id = $1 FOR NO KEY UPDATE NOWAIT
