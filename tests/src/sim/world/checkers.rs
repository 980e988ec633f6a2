//! The checkers: each promise is tested at every event that could have broken it.

use std::collections::BTreeSet;

use bridge_idc::orders::core as order_core;
use bridge_idc::orders::planner::Action;
use bridge_idc::orders::store::{Batch, RequestOutcome};
use bridge_protocol::domain::OrderId;
use bridge_protocol::order_link::sender::RequestClass;
use bridge_protocol::wire::order::Refusal;

use super::super::reference::{Body, Key, Order, Row, State};
use super::callers::{Attempt, AttemptEnd, CallerEnd, Intent, Request};
use super::cloud_log::LOGGED_WITHIN;
use super::replies::{CallerReply, NoEffect};
use super::{World, stored};

impl World {
    /// P7: no queue is longer than its limit.
    pub(super) fn check_bounds(&mut self) {
        let mut broken = None;
        for (number, cloud) in self.clouds.iter_mut().enumerate() {
            let windows =
                self.slots.iter().filter(|slot| slot.cloud == number).count() * self.window as usize;
            let limits = self.sender_limits;
            let [writes, questions] = RequestClass::ALL.map(|class| cloud.sender.queued(class));
            let unsettled = cloud.sender.unsettled();
            // Requests without a waiting caller. If keys rotate, those that no link opens may
            // exceed the queue's limit by this number.
            let settling = unsettled - cloud.waiting.len();
            let beside = if self.counts.rotations > 0 { settling } else { 0 };
            if settling >= limits.settling_max {
                cloud.overflowed_at = Some(self.now);
            }
            // For brands below their shares, a queue may be above its limit by the sum of all
            // shares: the limit once more, and one request for each brand.
            let max_of = |class| 2 * limits.max_of(class) + self.shop.brands().len();
            let [writes_max, questions_max] = RequestClass::ALL.map(|class| max_of(class) + windows);
            let all_max = RequestClass::ALL.map(max_of).iter().sum::<usize>() + windows;
            if writes > writes_max + beside
                || questions > questions_max
                || unsettled > all_max + beside
                || settling > limits.settling_max
            {
                broken = Some(format!(
                    "cloud {number} holds {unsettled} requests, {writes} writes and {questions} questions queued, {settling} that \
                     nobody waits for: the limits are {} and {}, {windows} on links, {}",
                    limits.queue_max, limits.questions_max, limits.settling_max
                ));
            }
        }
        for (number, idc) in self.idcs.iter().enumerate() {
            let max = self.idc_limits.window_max;
            if idc.agent.under_way() > max || idc.agent.waiting() > max {
                broken = Some(format!("idc {number} has {} under way of {max}", idc.agent.under_way()));
            }
        }
        if let Some(broken) = broken {
            self.violate("P7", broken);
        }
    }

    /// P7: each batch is within its limits.
    pub(super) fn check_batch(&mut self, idc: usize, batch: &Batch) {
        // An empty batch only tests if the database works again.
        let needless = batch.requests.is_empty() && !self.idcs[idc].agent.is_away();
        let lines: usize = batch.requests.iter().map(|request| request.action.lines()).sum();
        let too_long = lines > self.idc_limits.batch_lines_max && batch.requests.len() > 1;
        if needless || too_long || batch.requests.len() > self.idc_limits.batch_max {
            self.violate("P7", format!("a batch of {} requests with {lines} lines", batch.requests.len()));
        }
    }

    /// P9 and P2: two committers of an agent never have the same key, order or SKU under way.
    pub(super) fn check_committers(&mut self, idc: usize, attempt: &order_core::Attempt) {
        if attempt.awaited.is_some() {
            return;
        }
        let mut needs = BTreeSet::new();
        for request in &attempt.batch.requests {
            needs.extend([format!("key {:?}", request.key), format!("order {}", request.action.order())]);
            if let Action::Place(placement) = &request.action {
                let lines = placement.terms.lines().iter();
                needs.extend(lines.map(|line| format!("SKU {} of {}", line.sku, request.brand)));
            }
        }
        let committing = &mut self.idcs[idc].committing;
        let mut others = committing.iter().filter(|(other, _)| **other != attempt.committer);
        let both = others.find_map(|(other, has)| Some((*other, has.intersection(&needs).next()?.clone())));
        let is_second = committing.insert(attempt.committer, needs).is_some();
        if let Some((other, both)) = both {
            self.violate("P9", format!("committers {} and {other} both have {both}", attempt.committer));
        }
        if is_second {
            self.violate("P9", format!("committer {} has two batches", attempt.committer));
        }
        let side_by_side = self.idcs[idc].committing.len() > 1;
        self.counts.batches_side_by_side += u64::from(side_by_side);
    }

    /// P2: each answer of the ledger is the outcome that was committed under the key.
    pub(super) fn check_answer(&mut self, key: &Key, answer: &RequestOutcome) {
        if let RequestOutcome::Settled { receipt, .. } = answer
            && self.history.row(key) != Some(&stored::certified(receipt))
        {
            self.violate("P2", format!("an answer differs from what is committed: {receipt:?}"));
        }
    }

    /// P2 and P4: each effect is the first under its key, and its caller was not told that nothing
    /// happened.
    pub(super) fn check_effect(&mut self, receipt: Row, places: bool, began_after: u64) {
        let write = self.keys_sent.get(&receipt.key).copied();
        let Some(id) = write.filter(|id| matches!(self.writes[*id].intent, Intent::Place(_)) == places)
        else {
            return self.violate("P2", format!("an effect under a key that nobody sent for it: {receipt:?}"));
        };
        let first = self.history.add(receipt.clone(), places, began_after).or(self.writes[id].row.clone());
        if let Some(first) = first {
            let (one, two) = (first.position, receipt.position);
            return self.violate("P2", format!("caller {id}'s one key has two effects, at {one} and {two}"));
        }
        let (position, order) = (receipt.position, receipt.order);
        self.writes[id].row = Some(receipt);
        if self.is_denied_effect(id, order) {
            self.violate(
                "P4",
                format!("caller {id} was told that nothing happened, and at {position} it did"),
            );
        }
    }

    /// Returns true if the caller was told that there is no such effect.
    fn is_denied_effect(&self, id: usize, order: Order) -> bool {
        match self.writes[id].intent {
            Intent::Place(_) => self.denied.contains(&order),
            Intent::Cancel(_) => self.is_denied(id),
        }
    }

    /// Checks that an answer is true.
    pub(super) fn check_told(&mut self, attempt: usize, told: &CallerReply) {
        let Attempt { write: id, request, .. } = self.attempts[attempt];
        let counts = &mut self.counts;
        match told {
            CallerReply::Receipt { receipt, replayed } => {
                counts.replayed += u64::from(*replayed);
                if self.writes[id].receipt.is_none() {
                    *match receipt.outcome.code.as_str() {
                        "placed" => &mut counts.placed,
                        "sold-out" => &mut counts.sold_out,
                        "limit-reached" => &mut counts.limit_reached,
                        "price-changed" => &mut counts.price_changed,
                        "unknown-sku" => &mut counts.unknown_sku,
                        "cancelled" => &mut counts.cancelled,
                        _ => &mut counts.not_cancellable,
                    } += 1;
                }
                self.check_receipt(attempt, receipt);
            }
            CallerReply::State(state) => self.check_state(id, state),
            CallerReply::NotFound => {
                counts.not_found += 1;
                self.check_not_found(attempt);
            }
            CallerReply::Pending => counts.pending += 1,
            CallerReply::Nothing(nothing) => {
                counts.nothing_happened += 1;
                self.check_nothing(attempt, *nothing);
            }
            CallerReply::KeyReused => {
                counts.key_reused += 1;
                self.check_key_reused(attempt);
            }
            CallerReply::KeyTaken => {
                counts.key_reused += 1;
                self.deny(attempt);
            }
            CallerReply::InProgress => {
                counts.in_progress += 1;
                self.deny(attempt);
            }
            CallerReply::Unknown => counts.unknown += 1,
            CallerReply::Lost => counts.connections_lost += 1,
        }
        let is_write = !matches!(request, Request::Ask { .. });
        if is_write != !matches!(told, CallerReply::State(_) | CallerReply::NotFound | CallerReply::Pending)
            && !matches!(told, CallerReply::Nothing(_) | CallerReply::Unknown | CallerReply::Lost)
        {
            self.violate("ANSWERS", format!("{request:?} is answered {told:?}"));
        }
    }

    /// P1 and P2: a receipt's outcome is in the ledger, and all receipts of a key agree.
    fn check_receipt(&mut self, attempt: usize, receipt: &Row) {
        let Attempt { write: id, request, .. } = self.attempts[attempt];
        if self.history.row(&receipt.key) != Some(receipt) {
            self.violate(
                "P1",
                format!("caller {id} has a receipt for what is not in the ledger: {receipt:?}"),
            );
        }
        if self.writes[id].receipt.as_ref().is_some_and(|first| {
            (first.order, &first.outcome, first.position)
                != (receipt.order, &receipt.outcome, receipt.position)
        }) {
            self.violate("P2", format!("caller {id} has two different receipts for one key: {receipt:?}"));
        }
        let committed = self.placed_by(&receipt.order).map(|attempt| attempt.request);
        let fits = match request {
            Request::Place { .. } => committed == Some(request),
            Request::Cancel => matches!(receipt.outcome.code.as_str(), "cancelled" | "not-cancellable"),
            Request::CancelUnderPlacingKey | Request::Ask { .. } => false,
        };
        if !fits {
            self.violate(
                "P2",
                format!("{request:?} is answered with another request's receipt: {receipt:?}"),
            );
        }
    }

    /// P1: a state in an answer is the ledger's, with the terms that were sent. A cancellation may
    /// have been committed since the look-up.
    fn check_state(&mut self, id: usize, state: &State) {
        let sent = self.body_of(&state.order).map(|body| &body.terms);
        if !self.history.fits(state, sent) {
            let standing = self.history.standing(&state.order);
            let what = format!("caller {id} is told {state:?}, and the ledger has {standing:?} of {sent:?}");
            self.violate("P1", what);
        }
    }

    /// Returns the attempt for which an order's id was made.
    fn placed_by(&self, order: &Order) -> Option<&Attempt> {
        let order = OrderId::from_bytes(order).ok()?;
        self.attempts.get(*self.orders.get(&order)?)
    }

    /// Returns the body of the attempt for which an order's id was made.
    pub(super) fn body_of(&self, order: &Order) -> Option<&Body> {
        let Attempt { write, request, .. } = self.placed_by(order)?;
        match (&self.writes[*write].intent, request) {
            (Intent::Place(bodies), Request::Place { body }) => Some(&bodies.get(*body)?.sent),
            _ => None,
        }
    }

    /// P1 and P4: an order that the ledger had at the question is found, and a request that a
    /// sender still settles is not reported as missing.
    fn check_not_found(&mut self, attempt: usize) {
        let Attempt { write: id, request, cloud, cloud_life, existed, .. } = self.attempts[attempt];
        if existed {
            self.violate(
                "P1",
                format!("caller {id} asked for an order that exists, and is told that it does not"),
            );
        }
        let by_key = request == Request::Ask { by_key: true };
        // Requests without a waiting caller may have been dropped when the sender's limit was
        // reached.
        let overflowed_at = self.clouds[cloud].overflowed_at;
        for other in self.writes[id].attempts.clone() {
            let Attempt { cloud: at, cloud_life: life, ending, .. } = self.attempts[other];
            let still_settling = match ending {
                // The caller was told once the log had the entry, a little after the sender's
                // answer.
                AttemptEnd::Unknown(told) => {
                    let since = told.saturating_sub(LOGGED_WITHIN);
                    self.now < since + self.sender_limits.settle_for && overflowed_at < Some(since)
                }
                _ => false,
            };
            if by_key && still_settling && (at, life) == (cloud, cloud_life) {
                self.deny(other);
            }
        }
    }

    fn check_nothing(&mut self, attempt: usize, nothing: NoEffect) {
        let Attempt { write: id, request, existed, sealable, .. } = self.attempts[attempt];
        match nothing {
            NoEffect::Refused(Refusal::NotFound) => {
                if request == Request::Cancel && existed {
                    self.violate("P1", format!("caller {id} cannot cancel an order that is there"));
                }
            }
            NoEffect::Refused(Refusal::Busy | Refusal::DatabaseDown | Refusal::Late) => {}
            NoEffect::Refused(refusal) => {
                self.violate("ANSWERS", format!("an honest request is refused as {refusal:?}"));
            }
            NoEffect::NotSent if sealable => {
                self.violate("P11", format!("caller {id} is refused for a key that an agent lacks"));
            }
            NoEffect::NobodyThere
            | NoEffect::NotAdmitted(_)
            | NoEffect::QueueFull
            | NoEffect::NoSealingKey
            | NoEffect::NotLogged
            | NoEffect::NotSent => {}
        }
        if !matches!(request, Request::Ask { .. }) {
            self.deny(attempt);
        }
    }

    /// P2: a key is called reused only if the ledger has it for another request.
    fn check_key_reused(&mut self, attempt: usize) {
        let Attempt { write: id, request, key, .. } = self.attempts[attempt];
        let row = key.and_then(|key| self.history.row(&key));
        let committed = row.and_then(|row| self.placed_by(&row.order)).map(|by| by.request);
        let same = match request {
            Request::Place { .. } => committed == Some(request),
            Request::Cancel => true,
            Request::CancelUnderPlacingKey | Request::Ask { .. } => false,
        };
        if row.is_none() || same {
            self.violate("P2", format!("caller {id} is told that its key is another request's"));
        }
        self.deny(attempt);
    }

    /// P4: records that the caller was told that this attempt did nothing, and checks that it did
    /// nothing.
    fn deny(&mut self, attempt: usize) {
        let Attempt { write: id, request, order, .. } = self.attempts[attempt];
        self.attempts[attempt].ending = AttemptEnd::Denied;
        if let Request::Place { .. } = request {
            self.denied.insert(*order.as_bytes());
        }
        if let Some(order) = self.writes[id].row.as_ref().map(|row| row.order)
            && self.is_denied_effect(id, order)
        {
            self.violate("P4", format!("caller {id} is told that nothing happened, and it did"));
        }
    }

    /// P1: after a crash, the ledger has every outcome that a caller was told.
    pub(super) fn check_after_crash(&mut self) {
        let lost = self.history.lost(&self.stored_outcomes());
        for row in lost {
            let Some(id) = self.keys_sent.get(&row.key).copied() else { continue };
            if self.writes[id].receipt.as_ref() == Some(&row) {
                let code = &row.outcome.code;
                self.violate(
                    "P1",
                    format!("caller {id} was told `{code}`, and after a crash it is not there"),
                );
            }
            self.history.forget(&row);
            self.writes[id].row = None;
        }
    }

    /// Checks the end of the schedule: every caller's outcome is the ledger's, nothing is under
    /// way, and the reference model agrees.
    pub(super) fn check_end(&mut self) {
        let unsettled: usize = self.clouds.iter().map(|cloud| cloud.sender.unsettled()).sum();
        let under_way: usize = self.idcs.iter().map(|idc| idc.agent.under_way()).sum();
        if (unsettled, under_way) != (0, 0) {
            self.violate("LIVENESS", format!("{unsettled} unsettled and {under_way} under way at the end"));
        }
        for id in 0..self.writes.len() {
            let write = &self.writes[id];
            let fits = match (&write.receipt, &write.row, write.end) {
                (Some(receipt), Some(row), _) => receipt == row,
                (None, Some(_), CallerEnd::FoundThere)
                | (None, None, CallerEnd::FoundAbsent | CallerEnd::GaveUp) => true,
                _ => false,
            };
            if !fits {
                let what = format!("caller {id} ended {:?} with {:?}", write.end, write.receipt);
                let what = format!("{what}, and the ledger has {:?}", write.row);
                self.violate("THE END", what);
            }
        }
        let (outcomes, orders, available) =
            (self.stored_outcomes(), self.stored_orders(), self.ledger.available());
        let end = self.history.compare(&outcomes, &orders, &available, |order| self.body_of(order));
        if let Err((promise, differs)) = end.and(self.ledger.invariants().map_err(|broken| ("P3", broken))) {
            self.violate(promise, differs);
        }
    }
}
