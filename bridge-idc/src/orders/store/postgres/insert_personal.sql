INSERT INTO order_personal (
    order_id, key_version, wrapped_key, customer_name, customer_phone, customer_email,
    delivery_name, delivery_phone, delivery_postal_code, delivery_address, delivery_country, delivery_note
)
SELECT * FROM UNNEST(
    $1::uuid[], $2::integer[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[],
    $7::bytea[], $8::bytea[], $9::bytea[], $10::bytea[], $11::bytea[], $12::bytea[]
)
