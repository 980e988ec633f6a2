-- Whether this brand's order was decided and not placed.
SELECT count(*) FROM outcomes WHERE operation = 'place' AND brand = $1 AND order_id = $2
