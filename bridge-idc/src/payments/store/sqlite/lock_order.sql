-- How an order stands, and what it comes to. SQLite has one writer, so there is nothing to lock.
SELECT brand, state, currency, total FROM orders WHERE order_id = $1
