INSERT INTO orders (order_id, brand, position, customer_reference, currency, shipping_fee, total, committed_at)
SELECT
    unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, $2
FROM json_each($1)
