-- Returns the state and the total of an order. SQLite has one writer, so there is nothing to lock.
SELECT brand, state, currency, total FROM orders WHERE order_id = $1
