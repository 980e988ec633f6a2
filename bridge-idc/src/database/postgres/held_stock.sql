-- Locks the stock of these SKUs ($1: [[brand, sku], ..]), where it exists. Returns the SKUs whose
-- stock another session holds, without waiting for them.
WITH wanted AS MATERIALIZED (
    SELECT stock.sku_id, skus.brand, skus.sku
    FROM jsonb_array_elements(CAST($1::text AS jsonb)) AS named
    JOIN skus ON skus.brand = named ->> 0 AND skus.sku = named ->> 1
    JOIN stock ON stock.sku_id = skus.sku_id
),
locked AS MATERIALIZED (
    SELECT stock.sku_id
    FROM stock
    WHERE stock.sku_id IN (SELECT wanted.sku_id FROM wanted)
    FOR UPDATE SKIP LOCKED
)
SELECT wanted.brand, wanted.sku FROM wanted WHERE wanted.sku_id NOT IN (SELECT locked.sku_id FROM locked)
