SELECT launch_id FROM launch_sales WHERE launch_id = $1 FOR NO KEY UPDATE
