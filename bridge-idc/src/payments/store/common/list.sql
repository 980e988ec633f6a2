-- $1: 1 for those alone that are in doubt or have a refund in doubt, or whose money is to be back and is not (charged late, or
-- the gateway refused the refund that its order's cancellation asked for), 0 for all; the newest $2.
SELECT
    payment_id, brand, order_id, amount, currency, payment_key, state, refunded, code, asks, created_at, concluded_at,
    confirm_until
FROM payments
WHERE $1 = 0 OR state IN ('confirming', 'unknown', 'charged_late')
    OR payment_id IN (SELECT payment_id FROM refunds WHERE state IN ('confirming', 'unknown'))
    OR (
        state IN ('paid', 'partially_refunded')
        AND payment_id IN (SELECT payment_id FROM refunds WHERE automatic AND state = 'refused')
    )
ORDER BY created_at DESC, payment_id DESC
LIMIT $2
