-- Guarded: an order that is not placed any more is not counted, and the transaction is rolled back.
UPDATE orders SET state = 'cancelled', cancelled_at = $2 WHERE order_id = ANY($1) AND state = 'placed'
