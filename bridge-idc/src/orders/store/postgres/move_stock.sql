-- Moves units from available to sold, or back if negative, but never below zero.
UPDATE stock
SET available = stock.available - moved.units, sold = stock.sold + moved.units
FROM UNNEST($1::bigint[], $2::bigint[]) AS moved (sku_id, units)
WHERE stock.sku_id = moved.sku_id AND stock.available >= moved.units
