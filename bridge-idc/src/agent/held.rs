//! Requests that wait for what somebody else holds: a queue for each such thing, each tried on its own, so that nobody else
//! waits for it.
//!
//! Whatever concerns a waiting request, or needs what it waits for, goes behind it: so its key's and its order's requests keep
//! their order.

use std::collections::{BTreeMap, VecDeque};

use bridge_protocol::seal::sealing::Header;

use super::Pending;
use crate::ledger::AWAITED_AT_ONCE;
use crate::planner::{Action, Awaited, Request};

/// Requests of a brand that are tried together where nobody knows what is held: enough for a quiet shop, and halved within
/// seconds.
const OF_A_BRAND_AT_ONCE: usize = 16;

/// The queues.
#[derive(Debug, Default)]
pub(super) struct Queues {
    queues: BTreeMap<Awaited, Queue>,
    /// When each is tried, by turns: first those that were not waited for in vain yet.
    turns: [VecDeque<Awaited>; 2],
    /// Requests in all queues together.
    requests: usize,
}

#[derive(Debug, Default)]
struct Queue {
    /// In the order of admission.
    waiting: VecDeque<Pending>,
    /// Whether its first requests are being committed; it has a turn if not.
    tried: bool,
    /// Whether it was waited for in vain.
    in_vain: bool,
}

/// The first requests of a queue, and whether it was waited for in vain before.
pub(super) struct Turn {
    pub(super) awaited: Awaited,
    pub(super) requests: Vec<Pending>,
    pub(super) again: bool,
}

impl Queues {
    /// Requests that wait and are not being committed.
    pub(super) fn len(&self) -> usize {
        self.requests
    }

    /// Whether nothing is held, as far as is known here.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// What waits.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Pending> {
        self.queues.values().flat_map(|queue| &queue.waiting)
    }

    /// What a request needs that others wait for already, if it does. Those of `under_way` that are tried for a queue are in it.
    pub(super) fn needed_by<'a>(
        &self,
        request: &Request,
        mut under_way: impl Iterator<Item = (&'a Awaited, &'a Header)>,
    ) -> Option<Awaited> {
        let order = request.action.order();
        let concerns = |queue: &Queue| {
            let mut waiting = queue.waiting.iter().map(|pending| &pending.request);
            waiting.any(|other| other.key == request.key || other.action.order() == order)
        };
        let tried = under_way.find(|(_, other)| other.key == request.key || other.order == order);
        if let Some((awaited, _)) = tried {
            return Some(awaited.clone());
        }
        if let Some((awaited, _)) = self.queues.iter().find(|(_, queue)| concerns(queue)) {
            return Some(awaited.clone());
        }
        let brand = Awaited::Brand(request.brand.clone());
        if self.queues.contains_key(&brand) {
            return Some(brand);
        }
        match &request.action {
            Action::Place(placement) => {
                let stock = |sku| Awaited::Stock { brand: request.brand.clone(), sku };
                let mut needed = placement.terms.lines().iter().map(|line| stock(line.sku.clone()));
                needed.find(|awaited| self.queues.contains_key(awaited))
            }
            Action::Cancel { order } => {
                Some(Awaited::Order(*order)).filter(|order| self.queues.contains_key(order))
            }
        }
    }

    /// Puts a request behind those that wait for the same.
    pub(super) fn push(&mut self, awaited: Awaited, pending: Pending) {
        self.requests += 1;
        self.queue(awaited).waiting.push_back(pending);
    }

    /// A request waits for something else from now on: whatever concerns it goes with it, so that nothing comes before it.
    pub(super) fn move_over(&mut self, from: &Awaited, to: &Awaited, pending: Pending) {
        let (key, order) = (pending.request.key, pending.request.action.order());
        self.push(to.clone(), pending);
        let Some(left) = self.queues.get_mut(from) else { return };
        let concerns = |other: &Pending| other.request.key == key || other.request.action.order() == order;
        let (follow, stay): (VecDeque<_>, VecDeque<_>) = left.waiting.drain(..).partition(concerns);
        left.waiting = stay;
        self.queue(to.clone()).waiting.extend(follow);
    }

    /// A turn has ended: these requests wait on, before all others that wait for the same.
    pub(super) fn end_turn(&mut self, awaited: Awaited, again: Vec<Pending>) {
        self.requests += again.len();
        let in_vain = !again.is_empty();
        let queue = self.queue(awaited.clone());
        again.into_iter().rev().for_each(|pending| queue.waiting.push_front(pending));
        (queue.tried, queue.in_vain) = (false, in_vain);
        if queue.waiting.is_empty() {
            self.queues.remove(&awaited);
        } else {
            self.turns[usize::from(in_vain)].push_back(awaited);
        }
    }

    /// Whose turn it is, and at most so many of its requests. One place is kept for what was not waited for in vain yet, so
    /// that what is free soon does not stand behind what is held for long.
    pub(super) fn next_turn(&mut self, requests_max: usize) -> Option<Turn> {
        let tried = self.queues.values().filter(|queue| queue.tried);
        let (tried, in_vain) =
            tried.fold((0, 0), |(tried, in_vain), queue| (tried + 1, in_vain + usize::from(queue.in_vain)));
        let (fresh, known) = (0, 1);
        let awaited = match tried < AWAITED_AT_ONCE {
            false => None,
            // Nor stands what was held for long, and may be free by now, behind what comes all the time.
            true if in_vain == 0 => self.turns[known].pop_front().or_else(|| self.turns[fresh].pop_front()),
            true => self.turns[fresh]
                .pop_front()
                .or_else(|| if in_vain + 1 < AWAITED_AT_ONCE { self.turns[known].pop_front() } else { None }),
        }?;
        let requests_max = match awaited {
            // What is not named is looked for by halving, and each half may wait.
            Awaited::Brand(_) => requests_max.min(OF_A_BRAND_AT_ONCE),
            Awaited::Stock { .. } | Awaited::Order(_) => requests_max,
        };
        let queue = self.queues.get_mut(&awaited)?;
        let size = queue.waiting.len().min(requests_max);
        let requests: Vec<Pending> = queue.waiting.drain(..size).collect();
        queue.tried = true;
        self.requests -= requests.len();
        Some(Turn { awaited, requests, again: queue.in_vain })
    }

    fn queue(&mut self, awaited: Awaited) -> &mut Queue {
        self.queues.entry(awaited).or_insert_with_key(|awaited| {
            self.turns[0].push_back(awaited.clone());
            Queue::default()
        })
    }
}
