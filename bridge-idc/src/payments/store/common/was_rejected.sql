-- Whether this brand's order was decided and not placed. It may have been placed since its row was asked for.
SELECT count(*) FROM outcomes WHERE operation = 'place' AND outcome <> 'placed' AND brand = $1 AND order_id = $2
