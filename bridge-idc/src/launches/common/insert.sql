INSERT INTO launches (brand, launch, opens_at, ends_at, units, customer_limit, rate_per_s, session_s, claim_s)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING launch_id
