-- How many payments and refunds nobody can tell about, since when the oldest of them is, and how many payments were charged
-- late and are not back.
SELECT count(*), min(created_at), (SELECT count(*) FROM payments WHERE state = 'charged_late')
FROM (
    SELECT created_at FROM payments WHERE state = 'unknown'
    UNION ALL
    SELECT created_at FROM refunds WHERE state = 'unknown'
) AS doubt
