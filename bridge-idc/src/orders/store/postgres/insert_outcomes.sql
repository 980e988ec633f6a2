-- Inserts the outcomes, sorted by key ($2 to $13), of a batch that places and cancels nothing. $1 is
-- the time. Returns their positions in the order of their keys. A key that was settled by another
-- agent in the meantime gets no position.
WITH settled AS (
    INSERT INTO outcomes (
        key, brand, operation, order_id, fingerprint, outcome, sku, price, currency, opens_at, customer_limit, bought,
        committed_at
    )
    SELECT new.*, $1
    FROM UNNEST(
        $2::bytea[], $3::text[], $4::text[], $5::uuid[], $6::bytea[], $7::text[], $8::text[], $9::bigint[], $10::text[],
        $11::bigint[], $12::bigint[], $13::bigint[]
    ) AS new
    ON CONFLICT (key) DO NOTHING
    RETURNING key, position
)
SELECT coalesce(array_agg(settled.position ORDER BY settled.key), '{}') FROM settled
