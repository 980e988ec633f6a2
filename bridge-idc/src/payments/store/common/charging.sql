-- Returns the payment of an order that moved money or may have done so. A payment that was charged
-- late comes last.
SELECT payment_id, state FROM payments WHERE order_id = $1 AND state NOT IN ('declined', 'not_paid')
ORDER BY state IN ('charged_late', 'returned') LIMIT 1
