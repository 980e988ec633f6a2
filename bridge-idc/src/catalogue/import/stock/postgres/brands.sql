-- The existing ones of these brands, with their currencies.
SELECT brand, currency FROM brands WHERE brand = ANY($1)
