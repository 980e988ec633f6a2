//! Requests that wait for held rows: each such row has a queue that is tried on its own, so
//! requests that do not need the row never wait for it.
//!
//! A new request goes behind a waiting one if both are about the same key or order, or need the
//! same row. So requests about one key or order keep their sequence. The time to find the queue of
//! a new request does not depend on how many wait.
//!
//! Each brand may have its share of the queues, and brands take turns. So a brand whose orders wait
//! for held rows takes no place and no time from another brand that meets another held row.

/// Index of the queues by key and order.
mod queue_index;

/// Number of requests and share of each brand.
mod brand_counts;

/// Rows whose queues move.
mod movement;

/// Turns of the queues.
mod queue_turns;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bridge_protocol::domain::{Brand, Sku, UnixMicros};
use bridge_protocol::order_link::fair_share::FairShare;

use self::brand_counts::BrandCounts;
use self::movement::Movements;
use self::queue_index::{QueueIndex, RequestSubject};
use self::queue_turns::QueueTurns;
use super::Pending;
use super::committers::{BatchLimits, lines_of};
use super::turns::BrandWeights;
use crate::orders::planner::{Action, Awaited, Request};

/// Most requests of a brand that are tried together if the held row is unknown. This is enough for
/// a quiet shop, and bisection finds the row within seconds.
const OF_A_BRAND_AT_ONCE: usize = 16;

/// Time in which a queue that was tried in vain is not tried again. If others had their turns in
/// this time, it does not pause with a place of its own.
const REST: Duration = Duration::from_millis(500);

/// All queues of held rows.
#[derive(Debug, Default)]
pub(super) struct Queues {
    queues: BTreeMap<Awaited, Queue>,
    turns: QueueTurns,
    movements: Movements,
    /// Present time, as [`Queues::set_time`] has it.
    now: Duration,
    /// Requests in all queues and in batches for held rows, by brand. All of them count in the
    /// window.
    brands: BrandCounts,
    /// The queue of each waiting request, and of each request in a batch for a held row.
    whereabouts: QueueIndex,
    /// Queues of held launches, by the SKUs that the launches are known to sell.
    launched: BTreeMap<(Brand, Sku), Awaited>,
}

#[derive(Debug)]
struct Queue {
    /// Brand of the row: that of the first request.
    brand: Brand,
    /// Requests in the order of admission.
    waiting: VecDeque<Pending>,
    /// Brands and subjects of the first requests while a batch commits them. `None` while the queue
    /// waits for its turn.
    tried: Option<Vec<(Brand, RequestSubject)>>,
    /// Time of the end of the queue's last batch if that found the row still locked.
    in_vain: Option<Duration>,
}

/// The first requests of a queue. `again` is true if the queue's last batch found the row still
/// locked, and this was a moment ago.
pub(super) struct QueueTurn {
    pub(super) awaited: Awaited,
    pub(super) requests: Vec<Pending>,
    pub(super) again: bool,
}

impl Queues {
    /// Creates queues without requests, for brands of these weights.
    pub(super) fn new(weights: BrandWeights) -> Self {
        Self { turns: QueueTurns::new(weights.clone()), brands: BrandCounts::new(weights), ..Self::default() }
    }

    /// Sets the present time, by a clock that never steps back.
    pub(super) fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// Returns the number of requests that wait or are in a batch for a held row.
    pub(super) fn len(&self) -> usize {
        self.brands.len()
    }

    /// Returns true if no row is known to be held.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Returns the requests that wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Pending> {
        self.queues.values().flat_map(|queue| &queue.waiting)
    }

    /// Takes that a batch committed requests that waited for this row.
    pub(super) fn note_moved(&mut self, awaited: &Awaited) {
        self.movements.note(self.now, awaited);
    }

    /// Forgets the rows whose queues stand still.
    pub(super) fn forget_standing(&mut self) {
        self.movements.forget_standing(self.now);
    }

    /// Returns the time for which a row's queue has moved: for which its requests are committed,
    /// only not at once. Returns `None` if it stands still.
    pub(super) fn moves_for(&self, awaited: &Awaited) -> Option<Duration> {
        self.movements.moves_for(self.now, awaited)
    }

    /// Returns the brand of each waiting request whose queue moves, and its wait since then.
    pub(super) fn waits(&self, at: UnixMicros) -> impl Iterator<Item = (&Brand, Duration)> {
        let moving =
            self.queues.iter().filter_map(move |(awaited, queue)| Some((queue, self.moves_for(awaited)?)));
        moving.flat_map(move |(queue, moves_for)| {
            let wait = move |pending: &Pending| at.since(pending.since).min(moves_for);
            queue.waiting.iter().map(move |pending| (&pending.request.brand, wait(pending)))
        })
    }

    /// Returns the number of requests of each brand whose queues stand still.
    pub(super) fn standing(&self) -> BTreeMap<&Brand, usize> {
        let mut standing = BTreeMap::new();
        for (awaited, Queue { brand, waiting, tried, .. }) in &self.queues {
            if self.moves_for(awaited).is_none() {
                let tried = tried.as_ref().map_or(0, Vec::len);
                *standing.entry(brand).or_default() += waiting.len() + tried;
            }
        }
        standing
    }

    /// Returns the held row that a request must wait for, because it needs that row or is about the
    /// key or order of a waiting request.
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
                let mut lines = placement.terms.lines().iter();
                lines.find_map(|line| {
                    let held = Some(stock(line.sku.clone())).filter(|stock| self.queues.contains_key(stock));
                    held.or_else(|| self.launch_of(&request.brand, &line.sku))
                })
            }
            Action::Cancel { order } => {
                Some(Awaited::Order(*order)).filter(|order| self.queues.contains_key(order))
            }
        }
    }

    /// Returns the held launch that is known to sell this SKU.
    fn launch_of(&self, brand: &Brand, sku: &Sku) -> Option<Awaited> {
        if self.launched.is_empty() {
            return None;
        }
        self.launched.get(&(brand.clone(), sku.clone())).cloned()
    }

    /// Adds a request at the end of a queue. If `max` requests wait already, returns the request
    /// that must be refused. This is the given one if its brand has its share; otherwise the newest
    /// one of the brand that is furthest above its share.
    ///
    /// Requests that are being tried cannot be refused. If there is no other one, a brand within
    /// its share comes on top of `max`, until twice as many wait. A request in doubt is never
    /// refused, because an earlier try may have committed it.
    pub(super) fn push_if_room(&mut self, awaited: Awaited, pending: Pending, max: usize) -> Option<Pending> {
        let mut leaves = None;
        if !pending.doubtful && self.len() >= max {
            let brand = &pending.request.brand;
            let share = self.brands.share_of(brand, max);
            if !share.allows_one_more(self.brands.of(brand)) {
                return Some(pending);
            }
            leaves = self.remove_furthest_above(share);
            if leaves.is_none() && self.len() >= 2 * max {
                return Some(pending);
            }
        }
        self.push(awaited, pending);
        leaves
    }

    /// Removes the newest request of the brand that is furthest above its share, out of its longest
    /// queue. Leaves the requests in doubt, and a brand's only one.
    fn remove_furthest_above(&mut self, share: FairShare) -> Option<Pending> {
        let mut newest: BTreeMap<&Brand, (usize, &Awaited, usize)> = BTreeMap::new();
        for (awaited, Queue { waiting, .. }) in &self.queues {
            let Some(at) = waiting.iter().rposition(|pending| !pending.doubtful) else { continue };
            let longest = newest.entry(&waiting[at].request.brand).or_insert((0, awaited, 0));
            *longest = (*longest).max((waiting.len(), awaited, at));
        }
        let brands = newest.into_iter().map(|(brand, place)| {
            let (weight, count) = self.brands.weight_and_count(brand);
            (place, weight, count)
        });
        let (_, awaited, at) = share.furthest_above(brands)?;
        let awaited = awaited.clone();
        let queue = self.queues.get_mut(&awaited)?;
        let pending = queue.waiting.remove(at)?;
        if queue.waiting.is_empty() && queue.tried.is_none() {
            self.turns.remove(&queue.brand, &awaited);
            self.queues.remove(&awaited);
            self.launched.retain(|_, launch| *launch != awaited);
        }
        self.leave(&awaited, &pending.request.brand, RequestSubject::of(&pending.request));
        Some(pending)
    }

    /// Adds a request at the end of a queue.
    fn push(&mut self, awaited: Awaited, pending: Pending) {
        if let (Awaited::Launch { brand, .. }, Action::Place(placement)) = (&awaited, &pending.request.action)
            && let [line] = placement.terms.lines()
        {
            self.launched.insert((brand.clone(), line.sku.clone()), awaited.clone());
        }
        self.enter(&awaited, &pending.request);
        let queue = self.queues.entry(awaited).or_insert_with_key(|awaited| {
            let brand = pending.request.brand.clone();
            self.turns.add(&brand, awaited.clone(), false);
            Queue { brand, waiting: VecDeque::new(), tried: None, in_vain: None }
        });
        queue.waiting.push_back(pending);
    }

    fn enter(&mut self, awaited: &Awaited, request: &Request) {
        self.brands.add(&request.brand);
        self.whereabouts.enter(awaited, RequestSubject::of(request));
    }

    fn leave(&mut self, awaited: &Awaited, brand: &Brand, about: RequestSubject) {
        self.brands.remove(brand);
        self.whereabouts.leave(awaited, about);
    }

    /// Handles the end of a turn. The requests in `again` wait on, at the front of the same queue.
    /// Those in `elsewhere` wait for other rows from now on.
    pub(super) fn end_turn(
        &mut self,
        awaited: Awaited,
        again: Vec<Pending>,
        elsewhere: Vec<(Awaited, Pending)>,
    ) {
        // A queue stays while a batch of it is under way.
        let Some(queue) = self.queues.get_mut(&awaited) else { return };
        let (brand, tried, was_in_vain) = (queue.brand.clone(), queue.tried.take(), queue.in_vain.is_some());
        queue.in_vain = (!again.is_empty()).then_some(self.now);
        for (of, about) in tried.into_iter().flatten() {
            self.leave(&awaited, &of, about);
        }
        for (to, pending) in elsewhere {
            self.move_over(&awaited, to, pending);
        }
        for pending in again.into_iter().rev() {
            self.enter(&awaited, &pending.request);
            if let Some(queue) = self.queues.get_mut(&awaited) {
                queue.waiting.push_front(pending);
            }
        }
        let Some(Queue { waiting, in_vain, .. }) = self.queues.get(&awaited) else { return };
        let (is_over, in_vain) = (waiting.is_empty(), in_vain.is_some());
        if is_over || in_vain {
            // A launch may have ended meanwhile. A committer finds out with the next order.
            self.launched.retain(|_, launch| *launch != awaited);
        }
        if is_over {
            self.queues.remove(&awaited);
        } else {
            self.turns.add(&brand, awaited, in_vain);
        }
        self.turns.end(&brand, was_in_vain);
    }

    /// Moves a request to another queue. All requests about its key or order move with it, so that
    /// none of them overtakes.
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
            self.leave(from, &pending.request.brand, RequestSubject::of(&pending.request));
            self.push(to.clone(), pending);
        }
    }

    /// Returns the queue whose turn it is, with as many of its requests as a batch takes.
    pub(super) fn next_turn(&mut self, limits: BatchLimits) -> Option<QueueTurn> {
        let awaited = self.turns.begin()?;
        let requests_max = match awaited {
            // The held row of a brand's request is unknown. Bisection looks for it, and each half
            // may wait.
            Awaited::Brand(_) => limits.requests.min(OF_A_BRAND_AT_ONCE),
            Awaited::Stock { .. } | Awaited::Launch { .. } | Awaited::Order(_) => limits.requests,
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
        let about = |pending: &Pending| (pending.request.brand.clone(), RequestSubject::of(&pending.request));
        queue.tried = Some(requests.iter().map(about).collect());
        let again = queue.in_vain.is_some_and(|ended| self.now.saturating_sub(ended) < REST);
        Some(QueueTurn { awaited, requests, again })
    }
}

#[cfg(test)]
mod tests;
