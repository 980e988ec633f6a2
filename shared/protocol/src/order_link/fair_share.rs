//! What part of a bounded queue each brand may fill once the queue is full.
//!
//! Pure arithmetic, for the sender and for whoever asks before work is spent on a request.

/// A brand, by its position in the list of weights that the sender was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrandIndex(pub usize);

/// One brand's share of a queue, by weight among the brands that have something waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FairShare {
    /// The brand's weight.
    pub weight: usize,
    /// The weights of all brands that have something waiting, its own among them.
    pub busy_weight: usize,
    /// The requests that may wait, of all brands.
    pub queue_max: usize,
}

impl FairShare {
    /// Whether a brand with so many waiting may have one more although the queue is full. One with nothing waiting always may,
    /// however small its share is: otherwise a light brand would starve beside a heavy one.
    pub fn allows_one_more(&self, waiting: usize) -> bool {
        waiting == 0 || !self.is_exceeded_by(waiting.saturating_add(1))
    }

    /// Whether so many waiting are more than the share.
    pub fn is_exceeded_by(&self, waiting: usize) -> bool {
        waiting.saturating_mul(self.busy_weight) > self.weight.saturating_mul(self.queue_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_by_weight_and_never_less_than_one() {
        let share = |weight, busy_weight| FairShare { weight, busy_weight, queue_max: 8 };
        let most = |share: FairShare| (0..100).find(|waiting| !share.allows_one_more(*waiting)).unwrap();
        let shares = [share(1, 1), share(1, 2), share(3, 4), share(1, 3), share(1, 1_001)];
        assert_eq!(shares.map(most), [8, 4, 6, 2, 1]);
    }
}
