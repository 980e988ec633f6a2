-- Sets the time $2 of the next look at a refused refund ($1). Null ends the looks.
UPDATE refunds SET look_at = $2 WHERE refund_id = $1 AND state = 'refused'
