-- Moves units from available to sold, or back if negative, but never below zero.
UPDATE stock
SET available = available - moved.units, sold = sold + moved.units
FROM (SELECT value ->> 0 AS sku_id, value ->> 1 AS units FROM json_each($1)) AS moved
WHERE stock.sku_id = moved.sku_id AND stock.available >= moved.units
