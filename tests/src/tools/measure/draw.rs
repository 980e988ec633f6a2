//! Order of the sides' turns in a bench. It is drawn anew in each round, from one seed that the
//! report names.
//!
//! A side that is always last finds a warmer machine, or one that is still busy with the work of
//! the others. With drawn orders, this happens to each side equally often. The same seed draws the
//! same orders again.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A generator of orders.
#[derive(Debug)]
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// Makes the generator of a seed.
    #[must_use]
    pub fn from_seed(seed: u32) -> Draw {
        Draw(ChaCha8Rng::seed_from_u64(u64::from(seed)))
    }

    /// Returns `all` in a drawn order.
    pub(super) fn order<T: Copy>(&mut self, all: &[T]) -> Vec<T> {
        let mut order = all.to_vec();
        order.shuffle(&mut self.0);
        order
    }

    /// Returns true if the first of two sides has the first turn.
    pub(super) fn first_of_two(&mut self) -> bool {
        self.0.random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_orders_again_and_another_one_draws_others() {
        let orders = |seed| {
            let mut draw = Draw::from_seed(seed);
            (0..20).map(|_| draw.order(&['a', 'b', 'c', 'd'])).collect::<Vec<_>>()
        };
        assert_eq!(orders(1), orders(1));
        assert_ne!(orders(1), orders(2));
    }

    #[test]
    fn each_side_stands_at_each_place_and_none_is_left_out() {
        let mut draw = Draw::from_seed(7);
        let mut last = [0; 3];
        for _ in 0..300 {
            let mut order = draw.order(&[0, 1, 2]);
            last[order[2]] += 1;
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2]);
        }
        assert!(last.iter().all(|times| *times > 60), "{last:?}");
        let first = (0..300).filter(|_| draw.first_of_two()).count();
        assert!((60..240).contains(&first), "{first}");
    }
}
