//! A batch from its beginning to its end: what goes into it, and what becomes of each of its requests.

use std::time::Duration;

use bridge_protocol::domain::{OrderId, UnixMicros};
use bridge_protocol::order_link::receiver::Token;
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::wire::order::Refusal;

use super::committers::{Queued, Ticket};
use super::held::QueueTurn;
use super::{After, Attempt, AttemptEnd, OrderCore, Pending};
use crate::orders::log_entry;
use crate::orders::planner::{Awaited, Request};
use crate::orders::receipt;
use crate::orders::store::{Batch, Committed, RequestEnd};

/// A batch under way.
#[derive(Debug)]
pub(super) struct BatchUnderWay {
    committer: usize,
    /// `None` for a committer's batch.
    awaited: Option<Awaited>,
    /// Of all batches, the how many-th it is.
    number: u64,
    members: Vec<BatchMember>,
}

/// A request of a batch under way.
#[derive(Debug)]
pub(super) struct BatchMember {
    token: Token,
    header: Header,
    doubtful: bool,
    /// Its place at its committer, if it is one's.
    ticket: Option<Ticket>,
}

impl BatchMember {
    /// The order that it is about.
    pub(super) fn order(&self) -> OrderId {
        self.header.order
    }
}

/// Requests of a batch that has ended, which go on.
#[derive(Default)]
struct Onward {
    committed: Vec<((Token, Header), Committed)>,
    /// Nobody can tell about them; their place at the committer, if it was one's.
    unknown: Vec<(Pending, Option<Ticket>)>,
    /// They wait on for the same.
    again: Vec<Pending>,
    /// They wait for something else.
    elsewhere: Vec<(Awaited, Pending)>,
}

impl OrderCore {
    /// A batch has ended: every request of it is answered, or waits on.
    pub(super) fn batch_ended(&mut self, ended: AttemptEnd, now: UnixMicros) {
        let AttemptEnd { committer, awaited, requests, outage } = ended;
        let is_it = |batch: &BatchUnderWay| batch.awaited == awaited && batch.committer == committer;
        let Some(at) = self.batches.iter().position(is_it) else { return };
        let BatchUnderWay { members, number, .. } = self.batches.swap_remove(at);
        let mut onward = Onward::default();
        for (member, (request, end)) in members.into_iter().zip(requests) {
            self.request_ended(member, request, end, awaited.as_ref(), &mut onward, now);
        }
        let Onward { committed, unknown, again, elsewhere } = onward;
        self.answer_committed(committed, now);
        // The connection of somebody who waits may have been ended for that alone: whether the database works is seen by the
        // batches that wait for nothing. Nor does one that took too long tell, if another that began after it has come through.
        let waited = awaited.is_some();
        let tells = !waited && number > self.worked;
        if let Some(awaited) = awaited {
            self.held.end_turn(awaited, again, elsewhere);
        }
        if !unknown.is_empty() || (outage && tells) {
            (self.away, self.away_after) = (true, self.begun);
        } else if !waited && !outage {
            self.worked = self.worked.max(number);
            self.away &= number <= self.away_after;
        }
        self.try_again(unknown, now);
        if self.away {
            // What only waited has had no effect, and its callers can be told so at once.
            for pending in self.committers.drain_without_effect() {
                let header = log_entry::header_of(&pending.request);
                self.refuse_logged(now, pending.token, header, Refusal::DatabaseDown);
            }
        }
        self.answer_asked();
    }

    /// Queues requests of which nobody can tell. Those that keep what they need come before all others. Those that come from a queue
    /// of what somebody holds need it from now on, and so come behind whoever needs it already: in another order two of them could
    /// each wait for what the other one needs.
    fn try_again(&mut self, unknown: Vec<(Pending, Option<Ticket>)>, now: UnixMicros) {
        let mut kept = Vec::new();
        for (pending, ticket) in unknown {
            match ticket {
                Some(ticket) => kept.push(Queued { pending, ticket }),
                None => {
                    let needs = self.committers.needs_of(&pending.request);
                    self.committers.admit(pending, needs, now);
                }
            }
        }
        kept.into_iter().rev().for_each(|queued| self.committers.put_back(queued));
    }

    /// One request of a batch has ended so.
    fn request_ended(
        &mut self,
        member: BatchMember,
        request: Request,
        end: RequestEnd,
        awaited: Option<&Awaited>,
        onward: &mut Onward,
        now: UnixMicros,
    ) {
        let BatchMember { token, header, doubtful, ticket } = member;
        match end {
            RequestEnd::Committed(_) | RequestEnd::NotCommitted => self.doubtful -= usize::from(doubtful),
            RequestEnd::Unknown => self.doubtful += usize::from(!doubtful),
            RequestEnd::Waits(_) => {}
        }
        let pending = Pending { token, request, doubtful };
        match end {
            RequestEnd::Waits(on) => {
                return match ticket {
                    Some(ticket) => self.set_apart(on, Queued { pending, ticket }, now),
                    None if Some(&on) == awaited => onward.again.push(pending),
                    // It has its place among those who wait already.
                    None => onward.elsewhere.push((on, pending)),
                };
            }
            RequestEnd::Unknown => {
                return onward.unknown.push((Pending { doubtful: true, ..pending }, ticket));
            }
            RequestEnd::Committed(answer) => onward.committed.push(((token, header), answer)),
            // Only this try is known to have failed: an earlier one may have been committed.
            RequestEnd::NotCommitted if doubtful => self.receiver.abandon(token),
            RequestEnd::NotCommitted => self.refuse_logged(now, token, header, Refusal::DatabaseDown),
        }
        ticket.into_iter().for_each(|ticket| self.committers.leave(ticket));
    }

    fn answer_committed(&mut self, committed: Vec<((Token, Header), Committed)>, now: UnixMicros) {
        let (requests, committed): (Vec<_>, Vec<_>) = committed.into_iter().unzip();
        let answers = receipt::answers(&committed, self.keys.signer());
        for (((token, header), end), answer) in requests.into_iter().zip(&committed).zip(answers) {
            let entry = log_entry::ended(now, &header, end.answer());
            self.auditing.wait(entry, After::Answer(token, header.order, Box::new(answer)));
        }
    }

    /// A committer's request needs what somebody has. If that is stock of which nobody knew that it needs it, as with a
    /// cancellation, it may be another committer of this agent: then it goes behind what that one has.
    fn set_apart(&mut self, awaited: Awaited, queued: Queued, now: UnixMicros) {
        match &awaited {
            Awaited::Stock { brand, sku }
                if self.committers.count() > 1 && !queued.ticket.needs.has_stock(brand, sku) =>
            {
                self.committers.admit_again(queued, brand, sku);
            }
            _ => {
                self.committers.leave(queued.ticket);
                self.hold(awaited, queued.pending, now);
            }
        }
    }

    /// Sets a request apart that needs what somebody else holds. What does not fit is refused, unless it may be committed.
    fn hold(&mut self, awaited: Awaited, pending: Pending, now: UnixMicros) {
        if pending.doubtful || self.held.len() < self.held_max() {
            self.held.push(awaited, pending);
        } else {
            self.refuse_crowded(pending, now);
        }
    }

    fn refuse_crowded(&mut self, pending: Pending, now: UnixMicros) {
        let header = log_entry::header_of(&pending.request);
        self.refuse_logged(now, pending.token, header, Refusal::Busy);
    }

    /// Whether a committer has a batch under way.
    pub(super) fn is_busy(&self, committer: usize) -> bool {
        self.batches_of_committers().any(|batch| batch.committer == committer)
    }

    /// Whether any of them has.
    pub(super) fn is_committing(&self) -> bool {
        self.batches_of_committers().next().is_some()
    }

    fn batches_of_committers(&self) -> impl Iterator<Item = &BatchUnderWay> {
        self.batches.iter().filter(|batch| batch.awaited.is_none())
    }

    /// The next batch of a committer that has none.
    pub(super) fn next_batch(&mut self, at: UnixMicros) -> Option<Attempt> {
        if self.committers.len() == 0 && !self.away && !self.asks {
            return None;
        }
        let free: Vec<usize> =
            (0..self.committers.count()).filter(|committer| !self.is_busy(*committer)).collect();
        for committer in &free {
            let batch = self.take_batch(*committer, at);
            if !batch.is_empty() {
                return Some(self.attempt(*committer, batch, at));
            }
        }
        // An empty one shows when the database works again; unless one is under way that shows it as well.
        let is_asked = self.batches_of_committers().any(|batch| batch.number > self.away_after);
        let asks = self.asks || (self.away && !is_asked);
        let committer = free.into_iter().next().filter(|_| asks)?;
        Some(self.attempt(committer, Vec::new(), at))
    }

    fn take_batch(&mut self, committer: usize, at: UnixMicros) -> Vec<Queued> {
        let (held, held_max, mut crowded) = (&mut self.held, self.limits.held_max(), Vec::new());
        // What needs what others wait for already goes behind them. One that may be committed is looked for at once.
        let set_apart = |pending: Pending| {
            if pending.doubtful || held.is_empty() {
                return Some(pending);
            }
            match held.needed_by(&pending.request) {
                None => return Some(pending),
                Some(awaited) if held.len() < held_max => held.push(awaited, pending),
                Some(_) => crowded.push(pending),
            }
            None
        };
        let batch = self.committers.take_batch(committer, set_apart);
        crowded.into_iter().for_each(|pending| self.refuse_crowded(pending, at));
        batch
    }

    fn attempt(&mut self, committer: usize, batch: Vec<Queued>, at: UnixMicros) -> Attempt {
        self.asks = false;
        let first = batch.iter().map(|queued| queued.ticket.since).min();
        let batch = batch.into_iter().map(|Queued { pending, ticket }| (pending, Some(ticket)));
        let waited = first.map(|first| at.since(first));
        self.begin(committer, None, self.away, waited, batch, at)
    }

    /// The next batch of what somebody else holds.
    pub(super) fn next_turn(&mut self, at: UnixMicros) -> Option<Attempt> {
        if self.away {
            return None;
        }
        let QueueTurn { awaited, requests, again } = self.held.next_turn(self.committers.limits())?;
        let batch = requests.into_iter().map(|pending| (pending, None));
        Some(self.begin(0, Some(awaited), again, None, batch, at))
    }

    fn begin(
        &mut self,
        committer: usize,
        awaited: Option<Awaited>,
        again: bool,
        waited: Option<Duration>,
        batch: impl ExactSizeIterator<Item = (Pending, Option<Ticket>)>,
        at: UnixMicros,
    ) -> Attempt {
        let (mut members, mut requests) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for (Pending { token, request, doubtful }, ticket) in batch {
            members.push(BatchMember { token, header: log_entry::header_of(&request), doubtful, ticket });
            requests.push(request);
        }
        self.begun += 1;
        let under_way = BatchUnderWay { committer, awaited: awaited.clone(), number: self.begun, members };
        self.batches.push(under_way);
        Attempt { committer, awaited, again, waited, batch: Batch { requests, at } }
    }

    /// The requests of all batches under way.
    pub(super) fn members(&self) -> impl Iterator<Item = &BatchMember> {
        self.batches.iter().flat_map(|batch| &batch.members)
    }
}
