-- Other payments of an order ($1) that the gateway knows by the same token ($2), and that the money may be of: the gateway
-- charges a token once, and cannot tell them apart. $3: the payment itself.
SELECT count(*) FROM payments
WHERE order_id = $1 AND payment_key = $2 AND payment_id <> $3 AND state NOT IN ('declined', 'not_paid')
