-- How many payments and refunds nobody can tell about, and since when the oldest of them is.
SELECT count(*), min(created_at)
FROM (
    SELECT created_at FROM payments WHERE state = 'unknown'
    UNION ALL
    SELECT created_at FROM refunds WHERE state = 'unknown'
) AS doubt
