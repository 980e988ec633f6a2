-- Returns the payments of these orders ($1: ["id", ..]) that moved money.
SELECT payment_id
FROM payments
WHERE order_id IN (SELECT unhex(value) FROM json_each($1)) AND state IN ('paid', 'partially_refunded')
