-- Inserts outcomes, sorted by key. A key that is not returned was settled by another agent in the
-- meantime.
INSERT INTO outcomes (
    key, brand, operation, order_id, fingerprint, outcome, sku, price, currency, opens_at, customer_limit, bought,
    committed_at
)
SELECT new.*, $10
FROM UNNEST(
    $1::bytea[], $2::text[], $3::text[], $4::uuid[], $5::bytea[], $6::text[], $7::text[], $8::bigint[], $9::text[],
    $11::bigint[], $12::bigint[], $13::bigint[]
) AS new
ON CONFLICT (key) DO NOTHING
RETURNING key, position
