INSERT INTO launch_purchases (order_id, sku_id, launch_id, customer, units)
SELECT * FROM UNNEST($1::uuid[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[])
