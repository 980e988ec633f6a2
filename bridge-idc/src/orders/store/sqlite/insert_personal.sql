INSERT INTO order_personal (
    order_id, key_version, wrapped_key, customer_name, customer_phone, customer_email,
    delivery_name, delivery_phone, delivery_postal_code, delivery_address, delivery_country, delivery_note
)
SELECT
    unhex(value ->> 0), value ->> 1, unhex(value ->> 2), unhex(value ->> 3), unhex(value ->> 4), unhex(value ->> 5),
    unhex(value ->> 6), unhex(value ->> 7), unhex(value ->> 8), unhex(value ->> 9), unhex(value ->> 10),
    unhex(value ->> 11)
FROM json_each($1)
