-- Returns the outcomes under these keys.
SELECT
    key, order_id, fingerprint, outcome, sku, price, currency, position, committed_at,
    opens_at, customer_limit, bought
FROM outcomes
WHERE key IN (SELECT unhex(value) FROM json_each($1))
