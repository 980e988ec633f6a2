-- Locks these products ($1: [[brand, product], ..]) as an update does. Returns those that another
-- session holds, without waiting for them.
WITH wanted AS MATERIALIZED (
    SELECT products.brand, products.product
    FROM jsonb_array_elements(CAST($1::text AS jsonb)) AS named
    JOIN products ON products.brand = named ->> 0 AND products.product = named ->> 1
),
locked AS MATERIALIZED (
    SELECT products.brand, products.product
    FROM products
    WHERE (products.brand, products.product) IN (SELECT wanted.brand, wanted.product FROM wanted)
    FOR NO KEY UPDATE SKIP LOCKED
)
SELECT wanted.brand, wanted.product
FROM wanted
WHERE (wanted.brand, wanted.product) NOT IN (SELECT locked.brand, locked.product FROM locked)
