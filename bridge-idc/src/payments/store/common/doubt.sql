-- Returns the number of payments and refunds of unknown outcome, the start time of the oldest one,
-- and the number of payments that were charged late and are not refunded yet.
SELECT count(*), min(created_at), (SELECT count(*) FROM payments WHERE state = 'charged_late')
FROM (
    SELECT created_at FROM payments WHERE state = 'unknown'
    UNION ALL
    SELECT created_at FROM refunds WHERE state = 'unknown'
) AS doubt
