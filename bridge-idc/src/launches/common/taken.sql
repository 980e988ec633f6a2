-- Returns 1 if the brand exists and 1 if it has a launch of this name.
SELECT
    (SELECT count(*) FROM brands WHERE brand = $1),
    (SELECT count(*) FROM launches WHERE brand = $1 AND launch = $2)
