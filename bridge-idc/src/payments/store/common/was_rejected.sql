-- Returns 1 if this brand's order was decided and not placed. The order may have been placed after
-- its row was read.
SELECT count(*) FROM outcomes WHERE operation = 'place' AND outcome <> 'placed' AND brand = $1 AND order_id = $2
