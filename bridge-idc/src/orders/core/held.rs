//! Requests that wait for what somebody else holds: a queue for each such thing, each tried on its own, so that nobody else
//! waits for it.
//!
//! Whatever concerns a waiting request, or needs what it waits for, goes behind it: so its key's and its order's requests keep
//! their order. Whether a new request does is found in the same time however many wait.

/// In which queue a request is that another one concerns.
mod queue_index;

use std::collections::{BTreeMap, VecDeque};

use self::queue_index::{QueueIndex, RequestSubject};
use super::Pending;
use super::committers::{BatchLimits, lines_of};
use crate::orders::planner::{Action, Awaited, Request};
use crate::orders::store::AWAITED_AT_ONCE;

/// Requests of a brand that are tried together where nobody knows what is held: enough for a quiet shop, and halved within
/// seconds.
const OF_A_BRAND_AT_ONCE: usize = 16;

/// The queues.
#[derive(Debug, Default)]
pub(super) struct Queues {
    queues: BTreeMap<Awaited, Queue>,
    /// When each is tried, by turns: first those that were not waited for in vain yet.
    turns: [VecDeque<Awaited>; 2],
    /// How many are being tried, of each of both kinds.
    tried: [usize; 2],
    /// Requests in all queues together, and those of them that are being tried: they take up the window all the same.
    requests: usize,
    /// In which queue each of them is, and those that are being tried.
    whereabouts: QueueIndex,
}

#[derive(Debug, Default)]
struct Queue {
    /// In the order of admission.
    waiting: VecDeque<Pending>,
    /// Its first requests, while they are being committed; it has a turn if there are none.
    tried: Option<Vec<RequestSubject>>,
    /// Whether it was waited for in vain.
    in_vain: bool,
}

/// The first requests of a queue, and whether it was waited for in vain before.
pub(super) struct QueueTurn {
    pub(super) awaited: Awaited,
    pub(super) requests: Vec<Pending>,
    pub(super) again: bool,
}

impl Queues {
    /// Requests that wait, and those that are being tried.
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

    /// What a request needs that others wait for already, if it does.
    pub(super) fn needed_by(&self, request: &Request) -> Option<Awaited> {
        if let Some(awaited) = self.whereabouts.find(RequestSubject::of(request)) {
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
        self.whereabouts.enter(&awaited, RequestSubject::of(&pending.request));
        self.queue(awaited).waiting.push_back(pending);
    }

    /// A turn has ended. These requests wait on, before all others that wait for the same; and those wait for something else
    /// from now on.
    pub(super) fn end_turn(
        &mut self,
        awaited: Awaited,
        again: Vec<Pending>,
        elsewhere: Vec<(Awaited, Pending)>,
    ) {
        let queue = self.queue(awaited.clone());
        let (tried, was_in_vain) = (queue.tried.take(), queue.in_vain);
        queue.in_vain = !again.is_empty();
        if let Some(tried) = tried {
            self.requests -= tried.len();
            self.tried[usize::from(was_in_vain)] -= 1;
            tried.into_iter().for_each(|about| self.whereabouts.leave(&awaited, about));
        }
        for (to, pending) in elsewhere {
            self.move_over(&awaited, to, pending);
        }
        self.requests += again.len();
        for pending in again.into_iter().rev() {
            self.whereabouts.enter(&awaited, RequestSubject::of(&pending.request));
            self.queue(awaited.clone()).waiting.push_front(pending);
        }
        let Queue { waiting, in_vain, .. } = self.queue(awaited.clone());
        match (waiting.is_empty(), usize::from(*in_vain)) {
            (true, _) => drop(self.queues.remove(&awaited)),
            (false, kind) => self.turns[kind].push_back(awaited),
        }
    }

    /// A request that was tried waits for something else: whatever concerns it goes with it, so that nothing comes before it.
    fn move_over(&mut self, from: &Awaited, to: Awaited, pending: Pending) {
        let about = RequestSubject::of(&pending.request);
        self.push(to.clone(), pending);
        if !self.whereabouts.is_in(from, about) {
            return;
        }
        let Some(left) = self.queues.get_mut(from) else { return };
        let concerns = |other: &Pending| RequestSubject::of(&other.request).concerns(about);
        let (follow, stay): (VecDeque<_>, VecDeque<_>) = left.waiting.drain(..).partition(concerns);
        left.waiting = stay;
        for pending in follow {
            self.requests -= 1;
            self.whereabouts.leave(from, RequestSubject::of(&pending.request));
            self.push(to.clone(), pending);
        }
    }

    /// Whose turn it is, and as many of its requests as a batch takes. One place is kept for what was not waited for in vain yet, so
    /// that what is free soon does not stand behind what is held for long.
    pub(super) fn next_turn(&mut self, limits: BatchLimits) -> Option<QueueTurn> {
        let (fresh, known) = (0, 1);
        let in_vain = self.tried[known];
        let awaited = match self.tried[fresh] + in_vain < AWAITED_AT_ONCE {
            false => None,
            // Nor stands what was held for long, and may be free by now, behind what comes all the time.
            true if in_vain == 0 => self.turns[known].pop_front().or_else(|| self.turns[fresh].pop_front()),
            true => self.turns[fresh]
                .pop_front()
                .or_else(|| if in_vain + 1 < AWAITED_AT_ONCE { self.turns[known].pop_front() } else { None }),
        }?;
        let requests_max = match awaited {
            // What is not named is looked for by halving, and each half may wait.
            Awaited::Brand(_) => limits.requests.min(OF_A_BRAND_AT_ONCE),
            Awaited::Stock { .. } | Awaited::Order(_) => limits.requests,
        };
        let queue = self.queues.get_mut(&awaited)?;
        let mut lines = 0;
        let fits = |pending: &&Pending| {
            lines += lines_of(&pending.request);
            lines <= limits.lines
        };
        let size = queue.waiting.iter().take(requests_max).take_while(fits).count();
        let size = size.max(1).min(queue.waiting.len());
        let requests: Vec<Pending> = queue.waiting.drain(..size).collect();
        queue.tried = Some(requests.iter().map(|pending| RequestSubject::of(&pending.request)).collect());
        self.tried[usize::from(queue.in_vain)] += 1;
        Some(QueueTurn { awaited, requests, again: queue.in_vain })
    }

    fn queue(&mut self, awaited: Awaited) -> &mut Queue {
        self.queues.entry(awaited).or_insert_with_key(|awaited| {
            self.turns[0].push_back(awaited.clone());
            Queue::default()
        })
    }
}

#[cfg(test)]
mod tests;
