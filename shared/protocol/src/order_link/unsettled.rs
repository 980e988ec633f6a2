//! Orders with writes that are not settled, and requests that wait until an order is no longer
//! being placed.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use super::output::RequestId;
use crate::domain::OrderId;

/// Writes that are not settled.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    /// Writes by their order; each order has at least one.
    orders: HashMap<OrderId, Writes>,
}

#[derive(Debug, Default)]
struct Writes {
    count: usize,
    /// Writes that place the order.
    placings: usize,
    /// Writes that wait until no write places the order any more.
    behind: BTreeSet<RequestId>,
}

impl Unsettled {
    /// Returns true if an order has unsettled writes.
    pub(super) fn has(&self, order: OrderId) -> bool {
        self.orders.contains_key(&order)
    }

    /// Returns true if the order is being placed.
    pub(super) fn is_placing(&self, order: OrderId) -> bool {
        self.orders.get(&order).is_some_and(|writes| writes.placings > 0)
    }

    /// Takes a new write.
    pub(super) fn begin(&mut self, order: OrderId, places: bool) {
        let writes = self.orders.entry(order).or_default();
        writes.count += 1;
        writes.placings += usize::from(places);
    }

    /// Makes a write wait until its order is no longer being placed.
    pub(super) fn wait_behind(&mut self, order: OrderId, id: RequestId) {
        self.orders.entry(order).or_default().behind.insert(id);
    }

    /// Ends a write. Returns the requests that need not wait any more.
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
