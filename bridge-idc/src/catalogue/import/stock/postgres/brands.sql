-- Selects the currencies of these brands, for the brands that exist.
SELECT brand, currency FROM brands WHERE brand = ANY($1)
