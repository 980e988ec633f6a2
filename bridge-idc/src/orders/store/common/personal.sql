SELECT
    orders.brand, personal.key_version, personal.wrapped_key,
    personal.customer_name, personal.customer_phone, personal.customer_email,
    personal.delivery_name, personal.delivery_phone, personal.delivery_postal_code,
    personal.delivery_address, personal.delivery_country, personal.delivery_note
FROM order_personal AS personal
JOIN orders ON orders.order_id = personal.order_id
WHERE personal.order_id = $1
