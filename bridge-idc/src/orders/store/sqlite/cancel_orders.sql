-- Cancels these orders. An order that is no longer placed is not counted, and the caller then rolls
-- back.
UPDATE orders SET state = 'cancelled', cancelled_at = $2
WHERE order_id IN (SELECT unhex(value) FROM json_each($1)) AND state = 'placed'
