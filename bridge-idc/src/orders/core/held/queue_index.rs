//! Index of the queues of held rows by key and by order. A search takes the same time, however many
//! requests wait.

use std::collections::HashMap;

use bridge_protocol::domain::{KeyDigest, OrderId};

use crate::orders::planner::{Awaited, Request};

/// The key and the order of a request. Two requests concern one another if they have either in
/// common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestSubject {
    key: KeyDigest,
    order: OrderId,
}

impl RequestSubject {
    /// Returns the key and the order of a request.
    pub(super) fn of(request: &Request) -> Self {
        Self { key: request.key, order: request.action.order() }
    }

    /// Returns true if two requests concern one another.
    pub(super) fn concerns(self, other: Self) -> bool {
        self.key == other.key || self.order == other.order
    }
}

/// Number of requests in each queue, by key and by order.
#[derive(Debug, Default)]
pub(super) struct QueueIndex {
    keys: HashMap<KeyDigest, QueueCounts>,
    orders: HashMap<OrderId, QueueCounts>,
}

/// Number of requests by queue, the latest queue last; never 0. There is nearly always one queue.
/// There are more only if a key was used for two orders.
type QueueCounts = Vec<(Awaited, usize)>;

impl QueueIndex {
    /// Notes that a request has come into a queue.
    pub(super) fn enter(&mut self, queue: &Awaited, about: RequestSubject) {
        count(self.keys.entry(about.key).or_default(), queue);
        count(self.orders.entry(about.order).or_default(), queue);
    }

    /// Notes that a request has left a queue.
    pub(super) fn leave(&mut self, queue: &Awaited, about: RequestSubject) {
        discount(&mut self.keys, about.key, queue);
        discount(&mut self.orders, about.order, queue);
    }

    /// Returns the queue with requests that concern this one: first by its key, then by its order.
    pub(super) fn find(&self, about: RequestSubject) -> Option<&Awaited> {
        let (queue, _) = self.places(about).find_map(|places| places.last())?;
        Some(queue)
    }

    /// Returns true if requests that concern this one are in that queue.
    pub(super) fn is_in(&self, queue: &Awaited, about: RequestSubject) -> bool {
        self.places(about).flatten().any(|(known, _)| known == queue)
    }

    fn places(&self, about: RequestSubject) -> impl Iterator<Item = &QueueCounts> {
        self.keys.get(&about.key).into_iter().chain(self.orders.get(&about.order))
    }
}

fn count(places: &mut QueueCounts, queue: &Awaited) {
    match places.iter_mut().find(|(known, _)| known == queue) {
        Some((_, requests)) => *requests += 1,
        None => places.push((queue.clone(), 1)),
    }
}

fn discount<T: Eq + std::hash::Hash>(all: &mut HashMap<T, QueueCounts>, of: T, queue: &Awaited) {
    let Some(places) = all.get_mut(&of) else { return };
    if let Some(at) = places.iter().position(|(known, _)| known == queue) {
        places[at].1 -= 1;
        if places[at].1 == 0 {
            places.remove(at);
        }
    }
    if places.is_empty() {
        all.remove(&of);
    }
}

#[cfg(test)]
mod tests {
    use bridge_protocol::domain::{Brand, IdempotencyKey, Sku, UnixMicros};

    use super::*;

    fn about(key: &str, order: u8) -> RequestSubject {
        let brand = Brand::new("shoes").unwrap();
        let key = IdempotencyKey::parse(key.as_bytes()).unwrap().digest(&brand);
        RequestSubject { key, order: OrderId::new(UnixMicros::new(1), [order; 10]) }
    }

    fn stock(sku: &str) -> Awaited {
        Awaited::Stock { brand: Brand::new("shoes").unwrap(), sku: Sku::new(sku).unwrap() }
    }

    #[test]
    fn requests_are_found_by_key_or_order_until_the_last_leaves() {
        let mut whereabouts = QueueIndex::default();
        let shoe = stock("SHOE");
        for _ in 0..2 {
            whereabouts.enter(&shoe, about("place", 1));
        }
        for concerned in [about("place", 1), about("place", 2), about("cancel", 1)] {
            assert_eq!(whereabouts.find(concerned), Some(&shoe));
            assert!(whereabouts.is_in(&shoe, concerned) && !whereabouts.is_in(&stock("SOCK"), concerned));
        }
        assert_eq!(whereabouts.find(about("other", 2)), None);
        whereabouts.leave(&shoe, about("place", 1));
        assert!(whereabouts.find(about("cancel", 1)).is_some(), "one of two has left");
        whereabouts.leave(&shoe, about("place", 1));
        assert!(whereabouts.find(about("cancel", 1)).is_none());
        assert!(
            whereabouts.keys.is_empty() && whereabouts.orders.is_empty(),
            "nothing is kept of what has left"
        );
    }

    #[test]
    fn the_key_decides_before_the_order_and_the_latest_queue_wins() {
        let mut whereabouts = QueueIndex::default();
        let (shoe, sock) = (stock("SHOE"), stock("SOCK"));
        whereabouts.enter(&shoe, about("place", 1));
        whereabouts.enter(&sock, about("cancel", 2));
        assert_eq!(whereabouts.find(about("place", 2)), Some(&shoe));
        whereabouts.enter(&sock, about("again", 1));
        assert_eq!(whereabouts.find(about("cancel-2", 1)), Some(&sock));
        whereabouts.leave(&sock, about("again", 1));
        assert_eq!(whereabouts.find(about("cancel-2", 1)), Some(&shoe));
    }
}
