INSERT INTO brands (brand, currency)
SELECT value ->> 0, value ->> 1 FROM json_each($1) WHERE true
ON CONFLICT (brand) DO NOTHING
