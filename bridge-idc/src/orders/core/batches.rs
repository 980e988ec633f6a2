//! A batch from its beginning to its end: the choice of its requests, and the next step of each
//! one.

use std::time::Duration;

use bridge_protocol::domain::{Brand, OrderId, UnixMicros};
use bridge_protocol::order_link::receiver::Token;
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::wire::control::Grants;
use bridge_protocol::wire::order::Refusal;

use super::committers::{Queued, Ticket};
use super::held::{QueueTurn, Queues};
use super::{After, Attempt, AttemptEnd, OrderCore, Pending};
use crate::orders::log_entry;
use crate::orders::planner::{Awaited, Request};
use crate::orders::receipt;
use crate::orders::store::{Batch, Committed, RequestEnd};

/// A batch under way.
#[derive(Debug)]
pub(super) struct BatchUnderWay {
    committer: usize,
    /// The held row that the batch waits for. `None` for a committer's batch.
    awaited: Option<Awaited>,
    /// Number of the batch, counted from 1 over all batches.
    number: u64,
    /// Time of its begin, by the clock of [`OrderCore::set_time`].
    began: Duration,
    members: Vec<BatchMember>,
}

/// A request of a batch under way.
#[derive(Debug)]
pub(super) struct BatchMember {
    token: Token,
    header: Header,
    doubtful: bool,
    /// Time of the request's arrival at the committers.
    since: UnixMicros,
    /// Place of the request at its committer. `None` in a batch for a held row.
    ticket: Option<Ticket>,
}

impl BatchMember {
    /// Returns the order that the request is about.
    pub(super) fn order(&self) -> OrderId {
        self.header.order
    }
}

/// Requests of an ended batch, by their next step.
#[derive(Default)]
struct Onward {
    committed: Vec<((Token, Header), Committed)>,
    /// Requests of unknown outcome, with their place at the committer if they have one.
    unknown: Vec<(Pending, Option<Ticket>)>,
    /// Requests that still wait for the same held row.
    again: Vec<Pending>,
    /// Requests that now wait for another held row.
    elsewhere: Vec<(Awaited, Pending)>,
}

/// Returns the brand of each request in a batch for a held row whose queue moves, and its wait
/// since then.
fn waits_of_turns<'a>(
    batches: &'a [BatchUnderWay],
    held: &'a Queues,
    at: UnixMicros,
) -> impl Iterator<Item = (&'a Brand, Duration)> {
    let moving =
        batches.iter().filter_map(move |batch| Some((batch, held.moves_for(batch.awaited.as_ref()?)?)));
    moving.flat_map(move |(batch, moves_for)| {
        let wait = move |member: &BatchMember| at.since(member.since).min(moves_for);
        batch.members.iter().map(move |member| (&member.header.brand, wait(member)))
    })
}

impl OrderCore {
    /// Returns a new message about the requests that each cloud agent may have outstanding, if one
    /// is due. `round_trip` is that of the longest line.
    pub fn poll_grants(&mut self, now: UnixMicros, round_trip: Duration) -> Option<Grants> {
        let time = self.receiver.time();
        if self.away {
            self.credits.lift();
        }
        if !self.credits.is_due(time) {
            return None;
        }
        self.held.forget_standing();
        self.credits.set_standing(&self.held.standing());
        let held = self.held.waits(now).chain(waits_of_turns(&self.batches, &self.held, now));
        self.credits.compute(time, round_trip, self.committers.waits(now).chain(held))
    }

    /// Handles the end of a batch: each of its requests is answered or waits again.
    pub(super) fn batch_ended(&mut self, ended: AttemptEnd, now: UnixMicros) {
        let AttemptEnd { committer, awaited, requests, outage } = ended;
        let is_it = |batch: &BatchUnderWay| batch.awaited == awaited && batch.committer == committer;
        let Some(at) = self.batches.iter().position(is_it) else { return };
        let BatchUnderWay { members, number, began, .. } = self.batches.swap_remove(at);
        let mut onward = Onward::default();
        for (member, (request, end)) in members.into_iter().zip(requests) {
            self.request_ended(member, request, end, awaited.as_ref(), &mut onward, now);
        }
        let Onward { committed, unknown, again, elsewhere } = onward;
        if awaited.is_none() && !committed.is_empty() {
            self.credits.took(self.receiver.time().saturating_sub(began), committed.len());
        }
        if let Some(awaited) = awaited.as_ref().filter(|_| !committed.is_empty()) {
            self.held.note_moved(awaited);
        }
        self.answer_committed(committed, now);
        // A batch that waits for a lock may lose its connection because of the wait alone. Only
        // batches that wait for no lock tell if the database works. A batch that took too long does
        // not tell it either, if a batch that began later has been committed.
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
        self.try_again(unknown);
        if self.away {
            // Requests that only waited have had no effect, so they are refused at once.
            for pending in self.committers.drain_without_effect() {
                let header = log_entry::header_of(&pending.request);
                self.refuse_logged(now, pending.token, header, Refusal::DatabaseDown);
            }
        }
        self.answer_asked();
    }

    /// Queues requests in doubt again. Requests that still have their claims come before all
    /// others. Requests from the queue of a held row get their claims only now. So they come behind
    /// the requests that need the same rows; otherwise two of them could wait for each other.
    fn try_again(&mut self, unknown: Vec<(Pending, Option<Ticket>)>) {
        let mut kept = Vec::new();
        for (pending, ticket) in unknown {
            match ticket {
                Some(ticket) => kept.push(Queued { pending, ticket }),
                None => {
                    let needs = self.committers.needs_of(&pending.request);
                    self.committers.admit(pending, needs);
                }
            }
        }
        kept.into_iter().rev().for_each(|queued| self.committers.put_back(queued));
    }

    /// Handles the end of one request of a batch.
    fn request_ended(
        &mut self,
        member: BatchMember,
        request: Request,
        end: RequestEnd,
        awaited: Option<&Awaited>,
        onward: &mut Onward,
        now: UnixMicros,
    ) {
        let BatchMember { token, header, doubtful, since, ticket } = member;
        match end {
            RequestEnd::Committed(_) | RequestEnd::NotCommitted => self.doubtful -= usize::from(doubtful),
            RequestEnd::Unknown => self.doubtful += usize::from(!doubtful),
            RequestEnd::Waits(_) => {}
        }
        let pending = Pending { token, request, doubtful, since };
        match end {
            RequestEnd::Waits(on) => {
                return match ticket {
                    Some(ticket) => self.set_apart(on, Queued { pending, ticket }, now),
                    None if Some(&on) == awaited => onward.again.push(pending),
                    // A request from a queue of a held row has no ticket of a committer.
                    None => onward.elsewhere.push((on, pending)),
                };
            }
            RequestEnd::Unknown => {
                return onward.unknown.push((Pending { doubtful: true, ..pending }, ticket));
            }
            RequestEnd::Committed(answer) => onward.committed.push(((token, header), answer)),
            // Only this try is known to have failed. An earlier one may have committed the request.
            RequestEnd::NotCommitted if doubtful => self.receiver.abandon(token),
            RequestEnd::NotCommitted => self.refuse_logged(now, token, header, Refusal::DatabaseDown),
        }
        ticket.into_iter().for_each(|ticket| self.committers.leave(ticket));
    }

    fn answer_committed(&mut self, committed: Vec<((Token, Header), Committed)>, now: UnixMicros) {
        let (requests, committed): (Vec<_>, Vec<_>) = committed.into_iter().unzip();
        requests.iter().for_each(|(_, header)| self.credits.committed(&header.brand));
        let answers = receipt::answers(&committed, self.keys.signer());
        for (((token, header), end), answer) in requests.into_iter().zip(&committed).zip(answers) {
            let entry = log_entry::ended(now, &header, end.answer());
            self.auditing.wait(entry, After::Answer(token, header.order, Box::new(answer)));
        }
    }

    /// Handles a committer's request that needs a row that another session holds. If that row is
    /// stock or a launch that the request was not known to need, as with a cancellation, the holder
    /// may be another committer of this agent. The request then queues behind that committer's
    /// claims.
    fn set_apart(&mut self, awaited: Awaited, queued: Queued, now: UnixMicros) {
        if self.committers.count() > 1 && queued.ticket.needs.lacks(&awaited) {
            self.committers.admit_again(queued, &awaited);
        } else {
            self.committers.leave(queued.ticket);
            self.hold(awaited, queued.pending, now);
        }
    }

    /// Moves a request to the queue of a held row. If the queues are full, a request of the brand
    /// furthest above its share is refused.
    fn hold(&mut self, awaited: Awaited, pending: Pending, now: UnixMicros) {
        let crowded = self.held.push_if_room(awaited, pending, self.limits.held_max());
        crowded.into_iter().for_each(|pending| self.refuse_crowded(pending, now));
    }

    /// Refuses a request whose caller no longer waits. It certainly had no effect.
    fn refuse_late(&mut self, pending: Pending, now: UnixMicros) {
        self.dropped_late += 1;
        let header = log_entry::header_of(&pending.request);
        self.refuse_logged(now, pending.token, header, Refusal::Late);
    }

    fn refuse_crowded(&mut self, pending: Pending, now: UnixMicros) {
        let header = log_entry::header_of(&pending.request);
        self.refuse_logged(now, pending.token, header, Refusal::Busy);
    }

    /// Returns true if a committer has a batch under way.
    pub(super) fn is_busy(&self, committer: usize) -> bool {
        self.batches_of_committers().any(|batch| batch.committer == committer)
    }

    /// Returns true if any committer has a batch under way.
    pub(super) fn is_committing(&self) -> bool {
        self.batches_of_committers().next().is_some()
    }

    fn batches_of_committers(&self) -> impl Iterator<Item = &BatchUnderWay> {
        self.batches.iter().filter(|batch| batch.awaited.is_none())
    }

    /// Returns the next batch of a committer that has none under way.
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
        // An empty batch tests the database, unless a batch is under way that tests it as well.
        let is_asked = self.batches_of_committers().any(|batch| batch.number > self.away_after);
        let asks = self.asks || (self.away && !is_asked);
        let committer = free.into_iter().next().filter(|_| asks)?;
        Some(self.attempt(committer, Vec::new(), at))
    }

    fn take_batch(&mut self, committer: usize, at: UnixMicros) -> Vec<Queued> {
        let (held, held_max) = (&mut self.held, self.limits.held_max());
        let (receiver, mut crowded, mut late) = (&self.receiver, Vec::new(), Vec::new());
        // A request that needs a held row goes behind those that wait for that row. A request in
        // doubt is tried at once, also if its caller no longer waits.
        let set_apart = |pending: Pending| {
            if pending.doubtful {
                return Some(pending);
            }
            if receiver.is_late(pending.token) {
                late.push(pending);
                return None;
            }
            if held.is_empty() {
                return Some(pending);
            }
            match held.needed_by(&pending.request) {
                None => return Some(pending),
                Some(awaited) => crowded.extend(held.push_if_room(awaited, pending, held_max)),
            }
            None
        };
        let batch = self.committers.take_batch(committer, set_apart);
        crowded.into_iter().for_each(|pending| self.refuse_crowded(pending, at));
        late.into_iter().for_each(|pending| self.refuse_late(pending, at));
        batch
    }

    fn attempt(&mut self, committer: usize, batch: Vec<Queued>, at: UnixMicros) -> Attempt {
        self.asks = false;
        let first = batch.iter().map(|queued| queued.pending.since).min();
        for Queued { pending, .. } in &batch {
            self.credits.began(&pending.request.brand, at.since(pending.since));
        }
        let batch = batch.into_iter().map(|Queued { pending, ticket }| (pending, Some(ticket)));
        let waited = first.map(|first| at.since(first));
        self.begin(committer, None, self.away, waited, batch, at)
    }

    /// Returns the next batch for a held row.
    pub(super) fn next_turn(&mut self, at: UnixMicros) -> Option<Attempt> {
        if self.away {
            return None;
        }
        loop {
            let QueueTurn { awaited, requests, again } = self.held.next_turn(self.committers.limits())?;
            let is_late = |pending: &Pending| !pending.doubtful && self.receiver.is_late(pending.token);
            let (late, requests): (Vec<_>, Vec<_>) = requests.into_iter().partition(is_late);
            late.into_iter().for_each(|pending| self.refuse_late(pending, at));
            if requests.is_empty() {
                self.held.end_turn(awaited, Vec::new(), Vec::new());
                continue;
            }
            let batch = requests.into_iter().map(|pending| (pending, None));
            return Some(self.begin(0, Some(awaited), again, None, batch, at));
        }
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
        for (Pending { token, request, doubtful, since }, ticket) in batch {
            let header = log_entry::header_of(&request);
            members.push(BatchMember { token, header, doubtful, since, ticket });
            requests.push(request);
        }
        self.begun += 1;
        let (number, began) = (self.begun, self.receiver.time());
        self.batches.push(BatchUnderWay { committer, awaited: awaited.clone(), number, began, members });
        Attempt { committer, awaited, again, waited, batch: Batch { requests, at } }
    }

    /// Returns the requests of all batches under way.
    pub(super) fn members(&self) -> impl Iterator<Item = &BatchMember> {
        self.batches.iter().flat_map(|batch| &batch.members)
    }
}
