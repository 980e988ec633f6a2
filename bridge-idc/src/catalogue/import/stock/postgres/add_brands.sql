INSERT INTO brands (brand, currency)
SELECT * FROM UNNEST($1::text[], $2::text[])
ON CONFLICT (brand) DO NOTHING
