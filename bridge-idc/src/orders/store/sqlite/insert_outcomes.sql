-- Inserts outcomes, sorted by key. A key that is not returned was settled before.
INSERT INTO outcomes (
    key, brand, operation, order_id, fingerprint, outcome, sku, price, currency, opens_at, customer_limit, bought,
    committed_at
)
SELECT
    unhex(value ->> 0), value ->> 1, value ->> 2, unhex(value ->> 3), unhex(value ->> 4),
    value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> '$[9][0]', value ->> '$[9][1]', value ->> '$[9][2]', $2
FROM json_each($1)
WHERE true
ON CONFLICT (key) DO NOTHING
RETURNING key, position
