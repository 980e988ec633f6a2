SELECT value FROM key_checks WHERE key_name = $1
