INSERT INTO order_lines (order_id, line_no, sku_id, quantity, unit_price)
SELECT * FROM UNNEST($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[])
