SELECT key_name FROM key_checks ORDER BY key_name
