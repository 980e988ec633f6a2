-- The payment of an order that moved money, or may have; one that may pay for it before one that was charged late.
SELECT payment_id, state FROM payments WHERE order_id = $1 AND state NOT IN ('declined', 'not_paid')
ORDER BY state IN ('charged_late', 'returned') LIMIT 1
