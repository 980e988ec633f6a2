-- A refund that was refused ($1) is looked at again at $2, or not any more.
UPDATE refunds SET look_at = $2 WHERE refund_id = $1 AND state = 'refused'
