-- Returns the number of other payments of an order ($1) with the same gateway key ($2) that may
-- have moved the money. The gateway charges once for a key and cannot tell the payments apart. $3
-- is the payment itself.
SELECT count(*) FROM payments
WHERE order_id = $1 AND payment_key = $2 AND payment_id <> $3 AND state NOT IN ('declined', 'not_paid')
