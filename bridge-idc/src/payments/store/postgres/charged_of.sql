-- Returns the payments of these orders ($1: ["id", ..]) that moved money.
SELECT payments.payment_id
FROM payments
WHERE payments.order_id IN (
        SELECT CAST(cancelled.order_id AS uuid)
        FROM jsonb_array_elements_text(CAST($1::text AS jsonb)) AS cancelled (order_id)
    )
    AND payments.state IN ('paid', 'partially_refunded')
