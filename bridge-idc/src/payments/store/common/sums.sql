-- Returns the charged and the refunded amount in minor units, over all brands and currencies.
SELECT
    CAST(coalesce(sum(amount), 0) AS bigint), CAST(coalesce(sum(refunded), 0) AS bigint), count(*)
FROM payments
WHERE state IN ('paid', 'partially_refunded', 'refunded', 'charged_late', 'returned')
