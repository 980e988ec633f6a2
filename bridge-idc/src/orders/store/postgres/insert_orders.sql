INSERT INTO orders (order_id, brand, position, customer_reference, currency, shipping_fee, total, committed_at)
SELECT new.*, $8
FROM UNNEST($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[]) AS new
