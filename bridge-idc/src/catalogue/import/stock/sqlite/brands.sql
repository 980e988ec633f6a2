-- The existing ones of these brands, with their currencies.
SELECT brand, currency FROM brands WHERE brand IN (SELECT value FROM json_each($1))
