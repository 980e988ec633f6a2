//! The reserve: a part of each link's window that is kept for brands with little in flight.
//!
//! Each brand has a share of the reserve, by its weight among all brands. While it has less than
//! its share in flight, its requests may use the reserve. Otherwise they use only the rest of the
//! window, where brands take turns. So a flood leaves the reserve free, also if several brands send
//! one. The shares together are no more than the reserve, so each brand finds its share free
//! whatever the others send. Only if the reserve has fewer places than there are brands, the
//! smallest share is one place all the same.
//!
//! A share of the whole window would be too much: after each answer, a brand of several that fill
//! the window would be below it, and would leave nothing for a brand that comes new.

use super::fair_share::BrandIndex;

/// Part of each window, one in this many, that is the reserve.
const PARTS: usize = 8;

/// Requests in flight of each brand, and their shares of the reserve.
#[derive(Debug)]
pub(super) struct Reserve {
    brands: Vec<BrandInFlight>,
    all_weights: usize,
    /// Reserve of all open links.
    size: usize,
}

#[derive(Debug)]
struct BrandInFlight {
    weight: usize,
    in_flight: usize,
}

impl Reserve {
    /// Makes a reserve for brands of these weights.
    pub(super) fn new(weights: &[usize]) -> Self {
        let brands: Vec<_> =
            weights.iter().map(|weight| BrandInFlight { weight: (*weight).max(1), in_flight: 0 }).collect();
        Self { all_weights: brands.iter().map(|brand| brand.weight).sum(), brands, size: 0 }
    }

    /// Returns the part of a window that is kept. Nothing is kept if there is no other brand.
    pub(super) fn of_window(&self, window: usize) -> usize {
        if self.brands.len() > 1 { window / PARTS } else { 0 }
    }

    /// Sets the reserve of all open links.
    pub(super) fn set_size(&mut self, size: usize) {
        self.size = size;
    }

    /// Counts a request that is sent.
    pub(super) fn begin(&mut self, brand: BrandIndex) {
        if let Some(known) = self.brands.get_mut(brand.0) {
            known.in_flight += 1;
        }
    }

    /// Stops counting a request.
    pub(super) fn end(&mut self, brand: BrandIndex) {
        if let Some(known) = self.brands.get_mut(brand.0) {
            known.in_flight = known.in_flight.saturating_sub(1);
        }
    }

    /// Returns true if a brand may use the reserve.
    pub(super) fn is_for(&self, brand: BrandIndex) -> bool {
        self.brands.get(brand.0).is_some_and(|brand| {
            brand.in_flight < (self.size.saturating_mul(brand.weight) / self.all_weights).max(1)
        })
    }

    /// Returns all brands.
    pub(super) fn brands(&self) -> impl Iterator<Item = BrandIndex> + use<> {
        (0..self.brands.len()).map(BrandIndex)
    }
}
