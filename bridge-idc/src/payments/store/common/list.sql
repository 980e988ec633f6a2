-- Returns the newest $2 payments. If $1 is 1, only those that need attention: the payment or one of
-- its refunds is of unknown outcome, it was charged late, or the gateway refused an automatic
-- refund of it. If $1 is 0, all.
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
