-- Selects the currencies of these brands, for the brands that exist.
SELECT brand, currency FROM brands WHERE brand IN (SELECT value FROM json_each($1))
