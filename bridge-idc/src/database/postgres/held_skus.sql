-- Locks these SKUs ($1: [[brand, sku], ..]) as an update of their price does. Returns those that
-- another session holds, without waiting for them.
WITH wanted AS MATERIALIZED (
    SELECT skus.sku_id, skus.brand, skus.sku
    FROM jsonb_array_elements(CAST($1::text AS jsonb)) AS named
    JOIN skus ON skus.brand = named ->> 0 AND skus.sku = named ->> 1
),
locked AS MATERIALIZED (
    SELECT skus.sku_id
    FROM skus
    WHERE skus.sku_id IN (SELECT wanted.sku_id FROM wanted)
    FOR NO KEY UPDATE SKIP LOCKED
)
SELECT wanted.brand, wanted.sku FROM wanted WHERE wanted.sku_id NOT IN (SELECT locked.sku_id FROM locked)
