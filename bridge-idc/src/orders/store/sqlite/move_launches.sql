-- Moves units sold by launches, or back if negative, but never above what a launch sells in all.
UPDATE launch_sales
SET sold = sold + moved.units
FROM (SELECT value ->> 0 AS launch_id, value ->> 1 AS units FROM json_each($1)) AS moved
JOIN launches ON launches.launch_id = moved.launch_id
WHERE launch_sales.launch_id = moved.launch_id
    AND (moved.units <= 0 OR coalesce(launch_sales.sold + moved.units <= launches.units, true))
