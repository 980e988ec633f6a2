-- Which of these brands exist, and what they sell in.
SELECT brand, currency FROM brands WHERE brand = ANY($1)
