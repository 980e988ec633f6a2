//! Which orders have writes that the sender has not settled, and what waits until an order is no longer being placed.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use super::output::RequestId;
use crate::domain::OrderId;

/// Writes that are not settled.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    /// By their order; each has some.
    orders: HashMap<OrderId, Writes>,
}

#[derive(Debug, Default)]
struct Writes {
    count: usize,
    /// Those of them that place it.
    placings: usize,
    /// Those that wait until none places it any more.
    behind: BTreeSet<RequestId>,
}

impl Unsettled {
    /// Whether an order has any.
    pub(super) fn has(&self, order: OrderId) -> bool {
        self.orders.contains_key(&order)
    }

    /// Whether it is being placed.
    pub(super) fn is_placing(&self, order: OrderId) -> bool {
        self.orders.get(&order).is_some_and(|writes| writes.placings > 0)
    }

    /// A write has begun.
    pub(super) fn begin(&mut self, order: OrderId, places: bool) {
        let writes = self.orders.entry(order).or_default();
        writes.count += 1;
        writes.placings += usize::from(places);
    }

    /// One of them waits until its order is no longer being placed.
    pub(super) fn wait_behind(&mut self, order: OrderId, id: RequestId) {
        self.orders.entry(order).or_default().behind.insert(id);
    }

    /// A write has ended; returns what need not wait any more.
    pub(super) fn end(&mut self, order: OrderId, places: bool, id: RequestId) -> BTreeSet<RequestId> {
        let Entry::Occupied(mut entry) = self.orders.entry(order) else { return BTreeSet::new() };
        let writes = entry.get_mut();
        writes.count -= 1;
        writes.placings -= usize::from(places);
        writes.behind.remove(&id);
        let is_placing = writes.placings > 0;
        let behind = if is_placing { BTreeSet::new() } else { std::mem::take(&mut writes.behind) };
        if writes.count == 0 {
            entry.remove();
        }
        behind
    }
}
