-- Inserts outcomes, sorted by key. A key that is not returned was settled by another agent in the
-- meantime.
INSERT INTO outcomes (key, brand, operation, order_id, fingerprint, outcome, sku, price, currency, committed_at)
SELECT new.*, $10
FROM UNNEST(
    $1::bytea[], $2::text[], $3::text[], $4::uuid[], $5::bytea[], $6::text[], $7::text[], $8::bigint[], $9::text[]
) AS new
ON CONFLICT (key) DO NOTHING
RETURNING key, position
