-- What is settled under these keys. Read after the stock is locked, so that what another agent has just committed shows.
SELECT key, order_id, fingerprint, outcome, sku, price, currency, position, committed_at
FROM outcomes
WHERE key = ANY($1)
