//! Part of a bounded queue that each brand may fill when the queue is full.
//!
//! This is pure arithmetic. The sender uses it, and so does the check before work is spent on a
//! request.

/// Index of a brand in the sender's list of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrandIndex(pub usize);

/// One brand's share of a queue, by weight among the brands with waiting requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FairShare {
    /// Weight of the brand.
    pub weight: usize,
    /// Sum of the weights of all brands with waiting requests, including its own.
    pub busy_weight: usize,
    /// Most requests of all brands that may wait.
    pub queue_max: usize,
}

impl FairShare {
    /// Returns true if a brand with this number of waiting requests may have one more in a full
    /// queue.
    ///
    /// A brand without a waiting request always may, even if its share is less than one. Otherwise
    /// a light brand would starve beside a heavy one.
    pub fn allows_one_more(&self, waiting: usize) -> bool {
        waiting == 0 || !self.is_exceeded_by(waiting.saturating_add(1))
    }

    /// Returns the brand that is furthest above its own share, by weight, if it has more than one
    /// request. `brands` has each brand with its weight and its number of waiting requests.
    pub fn furthest_above<B>(self, brands: impl Iterator<Item = (B, usize, usize)>) -> Option<B> {
        let above = brands.filter(|(_, weight, waiting)| {
            *waiting > 1 && Self { weight: *weight, ..self }.is_exceeded_by(*waiting)
        });
        let furthest = above.max_by(|(_, weight, waiting), (_, other_weight, other_waiting)| {
            waiting.saturating_mul(*other_weight).cmp(&other_waiting.saturating_mul(*weight))
        });
        furthest.map(|(brand, ..)| brand)
    }

    /// Returns true if this number of waiting requests is more than the share.
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
