INSERT INTO key_checks (key_name, value, noted_at) VALUES ($1, $2, $3) ON CONFLICT (key_name) DO NOTHING
