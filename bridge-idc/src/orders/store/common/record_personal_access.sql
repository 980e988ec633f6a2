INSERT INTO personal_access (order_id, purpose, who, at) VALUES ($1, $2, $3, $4)
