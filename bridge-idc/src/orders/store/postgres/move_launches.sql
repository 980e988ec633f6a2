-- Moves units sold by launches, or back if negative, but never above what a launch sells in all.
UPDATE launch_sales
SET sold = launch_sales.sold + moved.units
FROM UNNEST($1::bigint[], $2::bigint[]) AS moved (launch_id, units)
JOIN launches USING (launch_id)
WHERE launch_sales.launch_id = moved.launch_id
    AND (moved.units <= 0 OR coalesce(launch_sales.sold + moved.units <= launches.units, true))
