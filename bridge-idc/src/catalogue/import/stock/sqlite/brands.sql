-- Which of these brands exist, and what they sell in.
SELECT brand, currency FROM brands WHERE brand IN (SELECT value FROM json_each($1))
