-- Locks rows as lock_stock.sql does, but waits for a row that another session holds.
WITH wanted AS MATERIALIZED (
    SELECT wanted.sku_id
    FROM skus AS wanted
    JOIN UNNEST($1::text[], $2::text[]) AS named (brand, sku) ON wanted.brand = named.brand AND wanted.sku = named.sku
    UNION
    SELECT UNNEST($3::bigint[])
), launched AS MATERIALIZED (
    SELECT launch_sales.launch_id
    FROM launch_sales
    WHERE launch_sales.launch_id IN (
        SELECT launch_skus.launch_id
        FROM wanted
        JOIN launch_skus ON launch_skus.sku_id = wanted.sku_id AND NOT isempty(launch_skus.selling)
        -- The first condition is tested once a statement: without a launch that has not ended, no SKU
        -- is looked up.
        WHERE (
                SELECT EXISTS (
                    SELECT
                    FROM launch_skus AS known
                    WHERE known.selling && int8range(CAST(extract(epoch FROM statement_timestamp()) * 1000000 AS bigint), NULL)
                )
            )
            AND (
                upper_inf(launch_skus.selling)
                OR upper(launch_skus.selling) > CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)
            )
        UNION
        SELECT UNNEST($4::bigint[])
    )
    ORDER BY launch_sales.launch_id
    FOR NO KEY UPDATE
), stocked AS MATERIALIZED (
    SELECT stock.sku_id
    FROM stock
    WHERE stock.sku_id IN (SELECT wanted.sku_id FROM wanted)
    ORDER BY stock.sku_id
    FOR UPDATE
)
SELECT NULL::bigint, launched.launch_id FROM launched
UNION ALL
SELECT stocked.sku_id, NULL::bigint FROM stocked
