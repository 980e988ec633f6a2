//! Number of requests for held rows of each brand, and each brand's share of their queues.

use std::collections::BTreeMap;

use bridge_protocol::domain::Brand;
use bridge_protocol::order_link::fair_share::FairShare;

use super::super::turns::BrandWeights;

/// Requests in the queues of held rows and in batches for held rows, by brand.
#[derive(Debug, Default)]
pub(super) struct BrandCounts {
    weights: BrandWeights,
    /// Number of requests of each brand; never 0. The order of brands is the same in each process,
    /// so that the simulation can repeat a run from its seed.
    counts: BTreeMap<Brand, usize>,
    /// Number of requests of all brands.
    len: usize,
    /// Sum of the weights of the brands in `counts`.
    busy_weight: usize,
}

impl BrandCounts {
    pub(super) fn new(weights: BrandWeights) -> Self {
        Self { weights, ..Self::default() }
    }

    /// Returns the number of requests of all brands.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of requests of a brand.
    pub(super) fn of(&self, brand: &Brand) -> usize {
        self.counts.get(brand).copied().unwrap_or(0)
    }

    /// Counts one more request of a brand.
    pub(super) fn add(&mut self, brand: &Brand) {
        self.len += 1;
        match self.counts.get_mut(brand) {
            Some(count) => *count += 1,
            None => {
                self.busy_weight += self.weights.of(brand);
                self.counts.insert(brand.clone(), 1);
            }
        }
    }

    /// Counts one request of a brand less.
    pub(super) fn remove(&mut self, brand: &Brand) {
        let Some(count) = self.counts.get_mut(brand) else { return };
        (*count, self.len) = (*count - 1, self.len - 1);
        if *count == 0 {
            self.counts.remove(brand);
            self.busy_weight -= self.weights.of(brand);
        }
    }

    /// Returns the share of a brand, with one more request of it.
    pub(super) fn share_of(&self, brand: &Brand, queue_max: usize) -> FairShare {
        let weight = self.weights.of(brand);
        let comes_new = if self.of(brand) == 0 { weight } else { 0 };
        FairShare { weight, busy_weight: self.busy_weight + comes_new, queue_max }
    }

    /// Returns the weight and the number of requests of a brand.
    pub(super) fn weight_and_count(&self, brand: &Brand) -> (usize, usize) {
        (self.weights.of(brand), self.of(brand))
    }
}
