-- Returns at most $3 launches, those that open last first: of one brand ($1) and of one name ($2), or
-- of all if these are null.
SELECT
    launch_id, launches.brand, launch, opens_at, ends_at, units, customer_limit, rate_per_s, session_s, claim_s,
    ended_at, launch_sales.sold
FROM launches
JOIN launch_sales USING (launch_id)
WHERE (CAST($1 AS text) IS NULL OR launches.brand = $1) AND (CAST($2 AS text) IS NULL OR launch = $2)
ORDER BY opens_at DESC, launch_id DESC
LIMIT $3
