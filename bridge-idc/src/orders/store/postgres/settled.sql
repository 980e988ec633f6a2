-- Returns the outcomes under these keys. It runs after the stock is locked, so that it sees the
-- latest commit of another agent.
SELECT
    key, order_id, fingerprint, outcome, sku, price, currency, position, committed_at,
    opens_at, customer_limit, bought
FROM outcomes
WHERE key = ANY($1)
