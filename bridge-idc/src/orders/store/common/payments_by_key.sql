-- Returns payments and refunds with the keys of their requests, in the order of keys: after $1, up
-- to $2, at most $3 rows.
SELECT
    payment_requests.key, payments.brand, payments.order_id, payment_requests.payment_id, payment_requests.refund_id,
    payments.state, refunds.state,
    CASE
        WHEN payment_requests.refund_id IS NULL THEN coalesce(payments.concluded_at, payments.created_at)
        ELSE coalesce(refunds.concluded_at, refunds.created_at)
    END
FROM payment_requests
LEFT JOIN payments ON payments.payment_id = payment_requests.payment_id
LEFT JOIN refunds ON refunds.refund_id = payment_requests.refund_id
WHERE payment_requests.key > $1 AND payment_requests.key <= $2
ORDER BY payment_requests.key
LIMIT $3
