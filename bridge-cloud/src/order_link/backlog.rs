//! Number of waiting requests of each brand, for all threads. A request takes a slot before work is
//! spent on it.
//!
//! Only the order link's owner knows the requests in its queue, and it reports their number here. A
//! request that is on its way there, and waits for the audit log or for the owner, holds a slot. So
//! a flood of one brand is refused early, and causes no refusal of another brand.
//!
//! Writes and questions are counted apart, so a crowd that asks takes no slot of an order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bridge_protocol::order_link::credits::CreditClass;
use bridge_protocol::order_link::fair_share::{BrandIndex, FairShare};
use bridge_protocol::order_link::sender::{RequestClass, SenderLimits};

/// Waiting requests by class.
#[derive(Debug, Clone)]
pub(super) struct Backlogs {
    writes: Arc<Backlog>,
    questions: Arc<Backlog>,
}

impl Backlogs {
    /// Makes empty backlogs for brands of these weights.
    pub(super) fn new(limits: &SenderLimits, weights: &[usize]) -> Self {
        let of = |class| Arc::new(Backlog::new(limits.max_of(class), weights));
        Self { writes: of(RequestClass::Write), questions: of(RequestClass::Question) }
    }

    /// Returns the backlog of a class.
    pub(super) fn of(&self, class: RequestClass) -> &Arc<Backlog> {
        match class {
            RequestClass::Write => &self.writes,
            RequestClass::Question => &self.questions,
        }
    }
}

/// Waiting requests of one class by brand.
#[derive(Debug)]
pub(super) struct Backlog {
    queue_max: usize,
    brands: Box<[BrandBacklog]>,
    /// Waiting requests of all brands.
    waiting: AtomicUsize,
    /// Sum of the weights of the brands with waiting requests.
    busy_weight: AtomicUsize,
}

#[derive(Debug)]
struct BrandBacklog {
    weight: usize,
    waiting: AtomicUsize,
    /// Number of these that wait in the owner's queue. Only the owner changes it.
    queued: AtomicUsize,
}

impl BrandBacklog {
    fn new(weight: usize) -> Self {
        Self { weight, waiting: AtomicUsize::new(0), queued: AtomicUsize::new(0) }
    }
}

/// Count of one request. It is counted until this is dropped.
#[derive(Debug)]
pub(super) struct CountedRequest {
    backlog: Arc<Backlog>,
    brand: BrandIndex,
}

impl Backlog {
    /// Makes an empty backlog for brands of these weights.
    pub(super) fn new(queue_max: usize, weights: &[usize]) -> Self {
        let brands = weights.iter().map(|weight| BrandBacklog::new(*weight)).collect();
        Self { queue_max, brands, waiting: AtomicUsize::new(0), busy_weight: AtomicUsize::new(0) }
    }

    /// Counts one more request of a brand. Returns `None` if the limit of waiting
    /// requests is reached and the brand has its share of them.
    ///
    /// Requests that come at the same time may all get the last slot. Only the owner counts
    /// exactly.
    pub(super) fn take(self: &Arc<Self>, brand: BrandIndex) -> Option<CountedRequest> {
        self.take_of(brand, self.queue_max)
    }

    /// Counts one more write of a brand. The part that its class must leave is none for
    /// it.
    pub(super) fn take_for(
        self: &Arc<Self>,
        class: CreditClass,
        brand: BrandIndex,
    ) -> Option<CountedRequest> {
        self.take_of(brand, class.part_of_queue(self.queue_max))
    }

    fn take_of(self: &Arc<Self>, brand: BrandIndex, queue_max: usize) -> Option<CountedRequest> {
        let BrandBacklog { weight, waiting, .. } = self.brands.get(brand.0)?;
        if self.waiting.load(Ordering::Relaxed) >= queue_max {
            let waiting = waiting.load(Ordering::Relaxed);
            let comes_new = if waiting == 0 { *weight } else { 0 };
            let busy_weight = self.busy_weight.load(Ordering::Relaxed) + comes_new;
            let share = FairShare { weight: *weight, busy_weight, queue_max };
            if !share.allows_one_more(waiting) {
                return None;
            }
        }
        self.add(brand, 1);
        Some(CountedRequest { backlog: self.clone(), brand })
    }

    /// Updates the number of a brand's requests that wait in the owner's queue.
    pub(super) fn set_queued(&self, brand: BrandIndex, now: usize) {
        let Some(of_brand) = self.brands.get(brand.0) else { return };
        let before = of_brand.queued.swap(now, Ordering::Relaxed);
        self.add(brand, now.saturating_sub(before));
        self.subtract(brand, before.saturating_sub(now));
    }

    fn add(&self, brand: BrandIndex, count: usize) {
        let Some(of_brand) = self.brands.get(brand.0).filter(|_| count > 0) else { return };
        if of_brand.waiting.fetch_add(count, Ordering::AcqRel) == 0 {
            self.busy_weight.fetch_add(of_brand.weight, Ordering::AcqRel);
        }
        self.waiting.fetch_add(count, Ordering::Relaxed);
    }

    fn subtract(&self, brand: BrandIndex, count: usize) {
        let Some(of_brand) = self.brands.get(brand.0).filter(|_| count > 0) else { return };
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        if of_brand.waiting.fetch_sub(count, Ordering::AcqRel) == count {
            self.busy_weight.fetch_sub(of_brand.weight, Ordering::AcqRel);
        }
    }
}

impl CountedRequest {
    /// Returns the brand of the request.
    pub(super) fn brand(&self) -> BrandIndex {
        self.brand
    }
}

impl Drop for CountedRequest {
    fn drop(&mut self) {
        self.backlog.subtract(self.brand, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOES: BrandIndex = BrandIndex(0);
    const TEA: BrandIndex = BrandIndex(1);

    #[test]
    fn a_full_backlog_takes_what_is_within_a_brands_share() {
        let backlog = Arc::new(Backlog::new(4, &[1, 1]));
        let take = |brand| backlog.take(brand);
        let mut flood: Vec<CountedRequest> = std::iter::from_fn(|| take(SHOES)).collect();
        assert_eq!(flood.len(), 4, "a brand that is alone has all");
        let tea: Vec<CountedRequest> = std::iter::from_fn(|| take(TEA)).collect();
        assert_eq!(tea.len(), 2);
        flood.truncate(1);
        assert!(take(SHOES).is_some());
        drop((flood, tea));
        assert_eq!(backlog.busy_weight.load(Ordering::Relaxed), 0);
        assert_eq!(backlog.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn bulk_leaves_the_last_part_of_the_queue_and_of_a_share() {
        let backlog = Arc::new(Backlog::new(16, &[1, 1]));
        let take = |class, brand| backlog.take_for(class, brand);
        let mut bulk: Vec<CountedRequest> = std::iter::from_fn(|| take(CreditClass::Bulk, SHOES)).collect();
        let orders: Vec<CountedRequest> = std::iter::from_fn(|| take(CreditClass::Order, SHOES)).collect();
        assert_eq!((bulk.len(), orders.len()), (14, 2));
        bulk.truncate(6);
        let tea: Vec<CountedRequest> = std::iter::from_fn(|| take(CreditClass::Order, TEA)).collect();
        assert_eq!(tea.len(), 8);
        drop(orders);
        assert!(take(CreditClass::Bulk, SHOES).is_some_and(|slot| {
            bulk.push(slot);
            take(CreditClass::Bulk, SHOES).is_none() && take(CreditClass::Order, SHOES).is_some()
        }));
    }

    #[test]
    fn what_waits_with_the_owner_counts_as_well() {
        let backlog = Arc::new(Backlog::new(4, &[1, 1]));
        backlog.set_queued(SHOES, 4);
        assert!(backlog.take(SHOES).is_none() && backlog.take(TEA).is_some());
        backlog.set_queued(SHOES, 0);
        assert!(backlog.take(SHOES).is_some());
        assert_eq!(backlog.busy_weight.load(Ordering::Relaxed), 0);
    }
}
