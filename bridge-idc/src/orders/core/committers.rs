//! The committers: transactions of this agent that run side by side and never need the same row.
//!
//! Sans-IO. A request goes to the committer that owns its hottest SKU. So one committer commits all
//! requests about a hot SKU, in the order of admission, and the others commit the rest. A request
//! that needs SKUs of two committers waits for the earlier requests of the other one. Later
//! requests for the same SKUs wait behind it. So no request waits for ever, and no two wait for
//! each other.
//!
//! Brands that wait for the same committer take turns by their weights. So a flood of one brand
//! delays an order of another brand by no more than the batch under way.

/// Claims of requests on rows.
mod claims;

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bridge_protocol::domain::{Brand, Sku, UnixMicros};

use self::claims::Claims;
pub(super) use self::claims::Needs;
use super::Pending;
use super::turns::{BrandTurns, BrandWeights, Waiting};
use crate::orders::planner::Request;
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
    /// Requests that were looked at and needed a row of another committer. They are older than
    /// those in `waiting`.
    passed_over: VecDeque<Queued>,
    /// Number of releases when `passed_over` was last looked at.
    seen: u64,
    /// Hashes of the keys and orders in `passed_over`. A later request about one of them must not
    /// overtake.
    passed_over_about: HashSet<u64>,
    waiting: BrandTurns<Queued>,
}

impl CommitQueue {
    fn new(weights: BrandWeights) -> Self {
        Self {
            passed_over: VecDeque::new(),
            seen: 0,
            passed_over_about: HashSet::new(),
            waiting: BrandTurns::new(weights),
        }
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
    /// Time of the request's arrival.
    pub(super) since: UnixMicros,
}

/// The requests that a committer takes out of its queue for a batch.
#[derive(Debug, Default)]
struct TakenBatch {
    batch: Vec<Queued>,
    lines: usize,
    is_full: bool,
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
        queues.map(move |queued| (&queued.pending.request.brand, now.since(queued.ticket.since)))
    }

    /// Returns the needs of a request. A single committer shares with no other, so its needs are
    /// empty.
    pub(super) fn needs_of(&self, request: &Request) -> Needs {
        if self.is_one() { Needs::default() } else { Needs::of(request) }
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
    pub(super) fn admit(&mut self, pending: Pending, needs: Needs, since: UnixMicros) {
        let ticket = self.ticket(&pending, needs, since);
        self.waiting += 1;
        self.queues[ticket.committer].waiting.push(Queued { pending, ticket });
    }

    /// Queues a request again that turned out to need this stock, which another committer may hold.
    pub(super) fn admit_again(&mut self, queued: Queued, brand: &Brand, sku: &Sku) {
        let Queued { pending, ticket } = queued;
        let (mut needs, since) = (ticket.needs.clone(), ticket.since);
        self.leave(ticket);
        needs.add_stock(brand, sku);
        self.admit(pending, needs, since);
    }

    /// Returns a request to its committer, which tries it again before all others.
    pub(super) fn put_back(&mut self, queued: Queued) {
        self.waiting += 1;
        let queue = &mut self.queues[queued.ticket.committer];
        // Forces the next look at the passed-over requests.
        queue.seen = u64::MAX;
        queue.passed_over.push_front(queued);
    }

    fn ticket(&mut self, pending: &Pending, needs: Needs, since: UnixMicros) -> Ticket {
        let (committer, lines) = (self.owner(&needs), lines_of(&pending.request));
        let number = if self.is_one() { 0 } else { self.claims.claim(&needs, lines, committer) };
        Ticket { committer, number, needs, lines, since }
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
        let releases = self.claims.releases();
        if queue.seen != releases {
            queue.passed_over_about.clear();
            for queued in std::mem::take(&mut queue.passed_over) {
                let left = self.take(&mut taken, &mut queue.passed_over_about, queued, &mut set_apart);
                queue.passed_over.extend(left);
            }
            // If the batch is full, some passed-over requests were not looked at.
            queue.seen = if taken.is_full { u64::MAX } else { releases };
        }
        while !taken.is_full
            && let Some(queued) = queue.waiting.pop()
        {
            match self.take(&mut taken, &mut queue.passed_over_about, queued, &mut set_apart) {
                Some(queued) if taken.is_full => queue.waiting.put_back(queued),
                left => queue.passed_over.extend(left),
            }
        }
        self.queues[committer] = queue;
        taken.batch
    }

    /// Takes a request into the batch, or returns it.
    fn take(
        &mut self,
        taken: &mut TakenBatch,
        passed_over_about: &mut HashSet<u64>,
        queued: Queued,
        set_apart: &mut impl FnMut(Pending) -> Option<Pending>,
    ) -> Option<Queued> {
        if taken.is_full {
            return Some(queued);
        }
        let Queued { pending, ticket } = queued;
        // This check comes first, so that a request does not overtake an earlier one about the same
        // order or key.
        let is_behind = ticket.needs.identities().iter().any(|about| passed_over_about.contains(about));
        if !self.is_one() && (is_behind || !self.claims.is_ready(&ticket.needs, ticket.number)) {
            passed_over_about.extend(ticket.needs.identities());
            return Some(Queued { pending, ticket });
        }
        let Some(pending) = set_apart(pending) else {
            self.waiting -= 1;
            self.leave(ticket);
            return None;
        };
        let lines = taken.lines + ticket.lines;
        if taken.batch.len() >= self.limits.requests || (!taken.batch.is_empty() && lines > self.limits.lines)
        {
            taken.is_full = true;
            return Some(Queued { pending, ticket });
        }
        taken.lines = lines;
        taken.batch.push(Queued { pending, ticket });
        self.waiting -= 1;
        None
    }

    /// Removes all requests that certainly had no effect.
    pub(super) fn drain_without_effect(&mut self) -> Vec<Pending> {
        let mut drained = Vec::new();
        for committer in 0..self.count() {
            let queue = &mut self.queues[committer];
            let passed_over = std::mem::take(&mut queue.passed_over);
            let waiting = queue.waiting.drain();
            queue.passed_over_about.clear();
            for queued in passed_over.into_iter().chain(waiting) {
                if queued.pending.doubtful {
                    self.queues[committer].waiting.push(queued);
                } else {
                    self.leave(queued.ticket);
                    drained.push(queued.pending);
                }
            }
        }
        self.waiting -= drained.len();
        drained
    }
}

#[cfg(test)]
mod tests;
