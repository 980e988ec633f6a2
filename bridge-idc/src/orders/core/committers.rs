//! The committers: transactions of this agent that run side by side and never need the same row.
//!
//! Sans-IO. A request goes to the committer that owns its hottest SKU. So one committer commits all
//! requests about a hot SKU, in the order of admission, and the others commit the rest. A request
//! that needs SKUs of two committers waits for the earlier requests of the other one. Later
//! requests for the same SKUs wait behind it. So no request waits for ever, and no two wait for
//! each other.
//!
//! Brands that wait for the same committer take turns by their weights. So a flood of one brand
//! delays an order of another brand by no more than the batch under way. A request that waits for
//! another committer lets the next one of its brand have the turn, and takes a turn later.

/// Claims of requests on rows.
mod claims;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use bridge_protocol::domain::{Brand, UnixMicros};

pub(super) use self::claims::Needs;
use self::claims::{Claims, KnownLaunches};
use super::Pending;
use super::turns::{BrandTurns, BrandWeights, Waiting};
use crate::orders::planner::{Awaited, Request};
use crate::orders::store::COMMITTERS_MAX;

/// Limits of one transaction, so that it holds its locks for a bounded time.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    /// Most requests.
    pub(super) requests: usize,
    /// Most order lines. A single order may have more, and is then committed alone.
    pub(super) lines: usize,
}

/// The queues of all committers.
#[derive(Debug)]
pub(super) struct Committers {
    queues: Vec<CommitQueue>,
    claims: Claims,
    launches: KnownLaunches,
    limits: BatchLimits,
    /// Number of requests in all queues.
    waiting: usize,
    /// Number of requests whose receipt goes into the next round of the audit log, by their future
    /// committer.
    logging: [usize; COMMITTERS_MAX],
}

/// Lines of an order that cost its brand as much as the order itself.
const LINES_PER_COST: usize = 8;

/// Queue of one committer. The requests of each brand are in the order of admission.
#[derive(Debug)]
struct CommitQueue {
    /// Requests that were looked at and needed a row of another committer.
    passed_over: VecDeque<Queued>,
    /// Number of releases when `passed_over` was last looked at.
    seen: u64,
    /// Hashes of the keys and orders in `passed_over`, each with the number of its first claim
    /// there. A later request about one of them must not overtake.
    passed_over_about: HashMap<u64, u64>,
    waiting: BrandTurns<Queued>,
}

impl CommitQueue {
    fn new(weights: BrandWeights) -> Self {
        Self {
            passed_over: VecDeque::new(),
            seen: 0,
            passed_over_about: HashMap::new(),
            waiting: BrandTurns::new(weights),
        }
    }

    /// Queues requests of one brand, which are in their order, again before its later ones.
    fn come_back(&mut self, queued: Vec<Queued>) {
        self.waiting.merge(queued, |one, other| one.ticket.number < other.ticket.number);
    }

    /// Lets a request wait until another committer has released what it needs.
    fn pass_over(&mut self, queued: Queued) {
        let number = queued.ticket.number;
        for about in queued.ticket.needs.identities() {
            self.passed_over_about
                .entry(about)
                .and_modify(|first| *first = number.min(*first))
                .or_insert(number);
        }
        self.passed_over.push_back(queued);
    }
}

impl Waiting for Queued {
    fn brand(&self) -> &Brand {
        &self.pending.request.brand
    }

    fn cost(&self) -> usize {
        1 + self.ticket.lines / LINES_PER_COST
    }
}

/// A request in a committer's queue.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) pending: Pending,
    pub(super) ticket: Ticket,
}

/// A request's place at its committer. The request keeps it until it is answered or waits for a
/// held row.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) committer: usize,
    number: u64,
    pub(super) needs: Needs,
    lines: usize,
}

/// The requests that a committer takes out of its queue for a batch.
#[derive(Debug, Default)]
struct TakenBatch {
    batch: Vec<Queued>,
    lines: usize,
}

impl TakenBatch {
    fn has_room(&self, lines: usize, limits: BatchLimits) -> bool {
        self.batch.len() < limits.requests && (self.batch.is_empty() || self.lines + lines <= limits.lines)
    }
}

/// Returns the number of lines that a request counts for in a batch. A cancellation counts as one
/// line.
pub(super) fn lines_of(request: &Request) -> usize {
    request.action.lines().max(1)
}

impl Committers {
    /// Creates this many committers, at most [`COMMITTERS_MAX`], with empty queues.
    pub(super) fn new(committers: usize, limits: BatchLimits, weights: &BrandWeights) -> Self {
        let committers = committers.clamp(1, COMMITTERS_MAX);
        Self {
            queues: (0..committers).map(|_| CommitQueue::new(weights.clone())).collect(),
            claims: Claims::new(committers),
            launches: KnownLaunches::default(),
            limits,
            waiting: 0,
            logging: [0; COMMITTERS_MAX],
        }
    }

    /// Returns the number of committers.
    pub(super) fn count(&self) -> usize {
        self.queues.len()
    }

    /// Returns the limits of one transaction.
    pub(super) fn limits(&self) -> BatchLimits {
        self.limits
    }

    /// Returns the number of requests in all queues.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Returns the requests in all queues.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Pending> {
        let queues =
            self.queues.iter().flat_map(|queue| queue.passed_over.iter().chain(queue.waiting.iter()));
        queues.map(|queued| &queued.pending)
    }

    /// Returns the brand of each request in the queues, and the time for which it has waited.
    pub(super) fn waits(&self, now: UnixMicros) -> impl Iterator<Item = (&Brand, Duration)> {
        let queues =
            self.queues.iter().flat_map(|queue| queue.passed_over.iter().chain(queue.waiting.iter()));
        queues.map(move |queued| (&queued.pending.request.brand, now.since(queued.pending.since)))
    }

    /// Returns the needs of a request. A single committer shares with no other, so its needs are
    /// empty.
    pub(super) fn needs_of(&self, request: &Request) -> Needs {
        if self.is_one() {
            return Needs::default();
        }
        let mut needs = Needs::of(request);
        self.launches.add_to(&mut needs);
        needs
    }

    fn is_one(&self) -> bool {
        self.queues.len() == 1
    }

    fn owner(&self, needs: &Needs) -> usize {
        if self.is_one() { 0 } else { self.claims.owner(needs) }
    }

    /// Notes that a request with these needs comes after the next round of the audit log.
    pub(super) fn note_logging(&mut self, needs: &Needs) {
        let owner = self.owner(needs);
        self.logging[owner] += 1;
    }

    /// Notes that a round of the audit log begins. It holds the receipts of all noted requests.
    pub(super) fn begin_logging(&mut self) {
        self.logging = [0; COMMITTERS_MAX];
    }

    /// Returns true if a free committer gets a request from the next round of the audit log.
    pub(super) fn waits_for_log(&self, is_free: impl Fn(usize) -> bool) -> bool {
        (0..self.count()).any(|committer| self.logging[committer] > 0 && is_free(committer))
    }

    /// Queues a request.
    pub(super) fn admit(&mut self, pending: Pending, needs: Needs) {
        let ticket = self.ticket(&pending, needs);
        self.waiting += 1;
        self.queues[ticket.committer].waiting.push(Queued { pending, ticket });
    }

    /// Queues a request again that turned out to need this row, which another committer may hold.
    pub(super) fn admit_again(&mut self, queued: Queued, awaited: &Awaited) {
        let Queued { pending, ticket } = queued;
        let mut needs = ticket.needs.clone();
        self.leave(ticket);
        self.launches.learn(&pending.request, awaited);
        needs.add(awaited);
        self.admit(pending, needs);
    }

    /// Returns a request to its committer, which tries it again before the later ones of its brand.
    pub(super) fn put_back(&mut self, queued: Queued) {
        self.waiting += 1;
        self.queues[queued.ticket.committer].come_back(vec![queued]);
    }

    fn ticket(&mut self, pending: &Pending, needs: Needs) -> Ticket {
        let (committer, lines) = (self.owner(&needs), lines_of(&pending.request));
        let number = if self.is_one() { 0 } else { self.claims.claim(&needs, lines, committer) };
        Ticket { committer, number, needs, lines }
    }

    /// Releases a request's place at its committer.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        let Ticket { committer, number, needs, lines, .. } = ticket;
        if !self.is_one() {
            self.claims.release(&needs, number, lines, committer);
        }
    }

    /// Takes the next batch of a committer: as many requests as fit. Brands take turns, and each
    /// brand's requests are in the order of admission. Requests that need a row of another
    /// committer stay. `set_apart` keeps the requests that need a held row, and returns the others.
    pub(super) fn take_batch(
        &mut self,
        committer: usize,
        mut set_apart: impl FnMut(Pending) -> Option<Pending>,
    ) -> Vec<Queued> {
        let mut taken = TakenBatch::default();
        let empty = CommitQueue::new(BrandWeights::default());
        let mut queue = std::mem::replace(&mut self.queues[committer], empty);
        self.look_again(&mut queue);
        while let Some(Queued { ticket, .. }) = queue.waiting.first() {
            if self.must_wait(&queue, ticket) {
                queue.waiting.skip().into_iter().for_each(|queued| queue.pass_over(queued));
                continue;
            }
            if !taken.has_room(ticket.lines, self.limits) {
                break;
            }
            let Some(Queued { pending, ticket }) = queue.waiting.pop() else { break };
            self.waiting -= 1;
            match set_apart(pending) {
                Some(pending) => {
                    taken.lines += ticket.lines;
                    taken.batch.push(Queued { pending, ticket });
                }
                None => self.leave(ticket),
            }
        }
        self.queues[committer] = queue;
        taken.batch
    }

    /// Returns true if a request needs a row of another committer, or is about the order or key of
    /// an earlier request that does.
    fn must_wait(&self, queue: &CommitQueue, ticket: &Ticket) -> bool {
        let is_behind =
            |about| queue.passed_over_about.get(about).is_some_and(|first| *first < ticket.number);
        !self.is_one()
            && (ticket.needs.identities().iter().any(is_behind)
                || !self.claims.is_ready(&ticket.needs, ticket.number))
    }

    /// Lets the passed-over requests that need not wait any more take turns with the others: before
    /// the later ones of their brand.
    fn look_again(&self, queue: &mut CommitQueue) {
        if queue.seen == self.claims.releases() {
            return;
        }
        queue.seen = self.claims.releases();
        queue.passed_over_about.clear();
        let mut ready: BTreeMap<Brand, Vec<Queued>> = BTreeMap::new();
        for queued in std::mem::take(&mut queue.passed_over) {
            if self.must_wait(queue, &queued.ticket) {
                queue.pass_over(queued);
            } else {
                ready.entry(queued.brand().clone()).or_default().push(queued);
            }
        }
        for mut of_a_brand in ready.into_values() {
            // One that came back to its committer may have been passed over behind later ones.
            of_a_brand.sort_by_key(|queued| queued.ticket.number);
            queue.come_back(of_a_brand);
        }
    }

    /// Removes all requests that certainly had no effect.
    pub(super) fn drain_without_effect(&mut self) -> Vec<Pending> {
        let mut drained = Vec::new();
        for committer in 0..self.count() {
            let queue = &mut self.queues[committer];
            let passed_over = std::mem::take(&mut queue.passed_over);
            let waiting = queue.waiting.drain();
            queue.passed_over_about.clear();
            let mut doubtful = Vec::new();
            for queued in passed_over.into_iter().chain(waiting) {
                if queued.pending.doubtful {
                    doubtful.push(queued);
                } else {
                    self.leave(queued.ticket);
                    drained.push(queued.pending);
                }
            }
            doubtful.sort_by_key(|queued| queued.ticket.number);
            doubtful.into_iter().for_each(|queued| self.queues[committer].waiting.push(queued));
        }
        self.waiting -= drained.len();
        drained
    }
}

#[cfg(test)]
mod tests;
