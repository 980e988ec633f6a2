-- The payment of an order that moved money, or may have.
SELECT state FROM payments WHERE order_id = $1 AND state NOT IN ('declined', 'not_paid')
