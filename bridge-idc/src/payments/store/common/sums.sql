-- What was charged and what was given back, in minor units, all brands and currencies together.
SELECT
    CAST(coalesce(sum(amount), 0) AS bigint), CAST(coalesce(sum(refunded), 0) AS bigint), count(*)
FROM payments
WHERE state IN ('paid', 'partially_refunded', 'refunded', 'charged_late', 'returned')
