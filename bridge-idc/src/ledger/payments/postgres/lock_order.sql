-- Locks an order, behind which all that happens to its payments waits; how it stands, and what it comes to.
SELECT brand, state, currency, total FROM orders WHERE order_id = $1 FOR NO KEY UPDATE
