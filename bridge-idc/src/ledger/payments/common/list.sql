-- $1: 1 for those in doubt alone, or with a refund in doubt, 0 for all; the newest $2.
SELECT payment_id, brand, order_id, amount, currency, payment_key, state, refunded, code, asks, created_at, concluded_at
FROM payments
WHERE $1 = 0 OR state IN ('confirming', 'unknown')
    OR payment_id IN (SELECT payment_id FROM refunds WHERE state IN ('confirming', 'unknown'))
ORDER BY created_at DESC, payment_id DESC
LIMIT $2
