//! The committers: so many transactions of this agent side by side, none of which needs what another one has locked.
//!
//! Sans-IO. A request goes to the committer that owns its hottest SKU, so what is about a hot SKU is committed by one of them, in
//! the order of admission, and everything else by the others. One that needs SKUs of two of them waits for the earlier requests of
//! the other one, and what comes later and needs the same waits behind it: so nobody waits for ever, and nobody in a circle.

/// Who needs what to itself.
mod claims;

use std::collections::{HashSet, VecDeque};

use bridge_protocol::domain::{Brand, Sku, UnixMicros};

use self::claims::Claims;
pub(super) use self::claims::Needs;
use super::Pending;
use crate::orders::planner::Request;
use crate::orders::store::COMMITTERS_MAX;

/// What one transaction takes at most, so that its locks are held for a bounded time.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    /// Requests.
    pub(super) requests: usize,
    /// Lines of orders; one order is taken however many it has.
    pub(super) lines: usize,
}

/// The committers' queues.
#[derive(Debug)]
pub(super) struct Committers {
    queues: Vec<CommitQueue>,
    claims: Claims,
    limits: BatchLimits,
    /// Requests in all queues together.
    waiting: usize,
    /// Requests by the committer that they would go to, whose receipt goes into the audit log with the next round.
    logging: [usize; COMMITTERS_MAX],
}

/// What waits for one committer, in the order of admission.
#[derive(Debug, Default)]
struct CommitQueue {
    /// Those that were looked at and needed what another committer has; older than all others.
    passed_over: VecDeque<Queued>,
    /// How often something had been released when they were.
    seen: u64,
    /// What keys and orders they are about: nothing about the same comes before them.
    passed_over_about: HashSet<u64>,
    waiting: VecDeque<Queued>,
}

/// A request in a committer's queue.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) pending: Pending,
    pub(super) ticket: Ticket,
}

/// A request's place at its committer: kept until it is answered, or waits for something else.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) committer: usize,
    number: u64,
    pub(super) needs: Needs,
    lines: usize,
    /// When it came.
    pub(super) since: UnixMicros,
}

/// What a committer takes out of its queue.
#[derive(Debug, Default)]
struct TakenBatch {
    batch: Vec<Queued>,
    lines: usize,
    is_full: bool,
}

/// What a request counts in a batch: a cancellation as much as an order of one line.
pub(super) fn lines_of(request: &Request) -> usize {
    request.action.lines().max(1)
}

impl Committers {
    /// So many of them, at most [`COMMITTERS_MAX`], with nothing to do.
    pub(super) fn new(committers: usize, limits: BatchLimits) -> Self {
        let committers = committers.clamp(1, COMMITTERS_MAX);
        Self {
            queues: (0..committers).map(|_| CommitQueue::default()).collect(),
            claims: Claims::new(committers),
            limits,
            waiting: 0,
            logging: [0; COMMITTERS_MAX],
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.queues.len()
    }

    /// What one transaction takes at most.
    pub(super) fn limits(&self) -> BatchLimits {
        self.limits
    }

    /// Requests that wait for any of them.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// What waits for any of them.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Pending> {
        let queues = self.queues.iter().flat_map(|queue| queue.passed_over.iter().chain(&queue.waiting));
        queues.map(|queued| &queued.pending)
    }

    /// What a request needs; one that is alone shares with nobody.
    pub(super) fn needs_of(&self, request: &Request) -> Needs {
        if self.is_one() { Needs::default() } else { Needs::of(request) }
    }

    fn is_one(&self) -> bool {
        self.queues.len() == 1
    }

    fn owner(&self, needs: &Needs) -> usize {
        if self.is_one() { 0 } else { self.claims.owner(needs) }
    }

    /// A request with these needs comes once the audit log has it.
    pub(super) fn note_logging(&mut self, needs: &Needs) {
        let owner = self.owner(needs);
        self.logging[owner] += 1;
    }

    /// A round of the audit log begins, with all of them.
    pub(super) fn begin_logging(&mut self) {
        self.logging = [0; COMMITTERS_MAX];
    }

    /// Whether one of these committers could commit something once the next round is durable.
    pub(super) fn waits_for_log(&self, is_free: impl Fn(usize) -> bool) -> bool {
        (0..self.count()).any(|committer| self.logging[committer] > 0 && is_free(committer))
    }

    /// Queues a request.
    pub(super) fn admit(&mut self, pending: Pending, needs: Needs, since: UnixMicros) {
        let ticket = self.ticket(&pending, needs, since);
        self.waiting += 1;
        self.queues[ticket.committer].waiting.push_back(Queued { pending, ticket });
    }

    /// Queues one again that turned out to need this stock as well, which another committer may have.
    pub(super) fn admit_again(&mut self, queued: Queued, brand: &Brand, sku: &Sku) {
        let Queued { pending, ticket } = queued;
        let (mut needs, since) = (ticket.needs.clone(), ticket.since);
        self.leave(ticket);
        needs.add_stock(brand, sku);
        self.admit(pending, needs, since);
    }

    /// A request comes back to its committer, to be tried again before all others.
    pub(super) fn put_back(&mut self, queued: Queued) {
        self.waiting += 1;
        let queue = &mut self.queues[queued.ticket.committer];
        // Whatever was seen before, it is to be looked at.
        queue.seen = u64::MAX;
        queue.passed_over.push_front(queued);
    }

    fn ticket(&mut self, pending: &Pending, needs: Needs, since: UnixMicros) -> Ticket {
        let (committer, lines) = (self.owner(&needs), lines_of(&pending.request));
        let number = if self.is_one() { 0 } else { self.claims.claim(&needs, lines, committer) };
        Ticket { committer, number, needs, lines, since }
    }

    /// A request needs its committer no longer.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        let Ticket { committer, number, needs, lines, .. } = ticket;
        if !self.is_one() {
            self.claims.release(&needs, number, lines, committer);
        }
    }

    /// Takes the next batch of a committer: in the order of admission, as much as fits, but for what needs something that another
    /// committer has. `set_apart` takes what somebody else holds, and gives back everything else.
    pub(super) fn take_batch(
        &mut self,
        committer: usize,
        mut set_apart: impl FnMut(Pending) -> Option<Pending>,
    ) -> Vec<Queued> {
        let mut taken = TakenBatch::default();
        let mut queue = std::mem::take(&mut self.queues[committer]);
        let releases = self.claims.releases();
        if queue.seen != releases {
            queue.passed_over_about.clear();
            for queued in std::mem::take(&mut queue.passed_over) {
                let left = self.take(&mut taken, &mut queue.passed_over_about, queued, &mut set_apart);
                queue.passed_over.extend(left);
            }
            // What did not fit has not been seen.
            queue.seen = if taken.is_full { u64::MAX } else { releases };
        }
        while !taken.is_full
            && let Some(queued) = queue.waiting.pop_front()
        {
            match self.take(&mut taken, &mut queue.passed_over_about, queued, &mut set_apart) {
                Some(queued) if taken.is_full => queue.waiting.push_front(queued),
                left => queue.passed_over.extend(left),
            }
        }
        self.queues[committer] = queue;
        taken.batch
    }

    /// Takes a request, or gives it back.
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
        // First, so that nothing overtakes an earlier request about the same order or key among those that wait.
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

    /// Takes out whatever has had no effect for certain.
    pub(super) fn drain_without_effect(&mut self) -> Vec<Pending> {
        let mut drained = Vec::new();
        for committer in 0..self.count() {
            let queue = std::mem::take(&mut self.queues[committer]);
            for queued in queue.passed_over.into_iter().chain(queue.waiting) {
                if queued.pending.doubtful {
                    self.queues[committer].waiting.push_back(queued);
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
