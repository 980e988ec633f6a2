-- Returns the payment of an order that moved money.
SELECT payment_id FROM payments WHERE order_id = $1 AND state IN ('paid', 'partially_refunded')
