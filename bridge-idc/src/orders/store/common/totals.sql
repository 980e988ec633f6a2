SELECT
    (SELECT count(*) FROM orders WHERE state = 'placed'),
    (SELECT count(*) FROM orders WHERE state = 'cancelled'),
    (SELECT count(*) FROM outcomes WHERE operation = 'place' AND outcome <> 'placed'),
    count(*),
    CAST(coalesce(sum(order_lines.quantity), 0) AS bigint)
FROM order_lines
JOIN orders ON orders.order_id = order_lines.order_id
WHERE orders.state = 'placed'
