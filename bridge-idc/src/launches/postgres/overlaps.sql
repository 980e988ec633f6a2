-- Returns the launches that sell one of these SKUs of brand $1 ($2, a JSON list) at any time from $3
-- on and before $4, or for ever if $4 is null.
SELECT skus.sku, launches.launch, launches.opens_at, launches.ends_at
FROM json_array_elements_text($2::json) AS wanted (sku)
JOIN skus ON skus.brand = $1 AND skus.sku = wanted.sku
JOIN launch_skus USING (sku_id)
JOIN launches USING (launch_id)
WHERE launches.ended_at IS NULL
    AND coalesce(launches.ends_at > $3, true)
    AND coalesce(launches.opens_at < $4, true)
ORDER BY skus.sku, launches.opens_at
