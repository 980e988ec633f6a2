-- Marks the units of these cancelled orders as given back to their launches.
UPDATE launch_purchases SET given_back_at = $2 WHERE order_id = ANY($1) AND given_back_at IS NULL
