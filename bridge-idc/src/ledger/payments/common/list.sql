-- $1: 1 for those alone that are in doubt, have a refund in doubt or were charged late and are not back, 0 for all; the
-- newest $2.
SELECT
    payment_id, brand, order_id, amount, currency, payment_key, state, refunded, code, asks, created_at, concluded_at,
    confirm_until
FROM payments
WHERE $1 = 0 OR state IN ('confirming', 'unknown', 'charged_late')
    OR payment_id IN (SELECT payment_id FROM refunds WHERE state IN ('confirming', 'unknown'))
ORDER BY created_at DESC, payment_id DESC
LIMIT $2
