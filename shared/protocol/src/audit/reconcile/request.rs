//! One request, with the entries of each log about it.

use super::{LogId, Side};
use crate::audit::entry::{Carried, Digest, Ended, Word};
use crate::domain::outcome::code_before_launches;
use crate::domain::{Brand, OrderId, UnixMicros};

/// Codes of a final outcome of a payment or a refund.
const MONEY: [&str; 9] = [
    "paid",
    "declined",
    "not_paid",
    "partially_refunded",
    "refunded",
    "charged_late",
    "returned",
    "done",
    "refused",
];

/// A request by its key, with every attempt under it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) brand: Brand,
    /// The order in the first entry.
    pub(super) order: OrderId,
    /// Cloud agents' logs: attempts sent, and answers to callers.
    pub(super) cloud: Vec<LoggedRequest>,
    /// IDC agents' logs: attempts received, and outcomes committed.
    pub(super) idc: Vec<LoggedRequest>,
}

/// Entries of one log about one request.
#[derive(Debug)]
pub(super) struct LoggedRequest {
    pub(super) log: LogId,
    /// First entry about it.
    pub(super) first: u64,
    pub(super) since: UnixMicros,
    /// Time of the last entry that the other side must also know of.
    pub(super) last: UnixMicros,
    /// Set if an attempt was sent or received after the last outcome.
    awaited: bool,
    /// Distinct attempts.
    pub(super) carried: Vec<Attempt>,
    /// Time of each attempt's first entry.
    carried_at: Vec<UnixMicros>,
    /// Cloud: answers to callers. IDC: committed outcomes.
    pub(super) ended: Vec<Ended>,
}

/// One attempt at a request. A caller that repeats a request under its key gets a new order id or
/// payment id, and sealing again gives other bytes. Each attempt is received as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    action: Word,
    order: OrderId,
    payment: Option<Word>,
    ciphertext: Option<Digest>,
    /// Digest over all facts of the attempt.
    facts: Digest,
}

impl Request {
    /// Returns the entries of this log. They start at `index` if there are none yet.
    pub(super) fn told(&mut self, side: Side, log: LogId, index: u64, at: UnixMicros) -> &mut LoggedRequest {
        let all = match side {
            Side::Cloud => &mut self.cloud,
            Side::Idc => &mut self.idc,
        };
        let known = all.iter().position(|told| told.log == log).unwrap_or(all.len());
        if known == all.len() {
            all.push(LoggedRequest::new(log, index, at));
        }
        &mut all[known]
    }

    /// Returns the order id in the ledger, if it is known.
    pub(super) fn order(&self) -> OrderId {
        let mut committed = self.idc.iter().flat_map(|told| &told.ended);
        committed.find(|ended| ended.position.is_some()).map_or(self.order, |ended| ended.order)
    }
}

impl LoggedRequest {
    pub(super) fn new(log: LogId, first: u64, at: UnixMicros) -> Self {
        let (carried, carried_at, ended) = (Vec::new(), Vec::new(), Vec::new());
        Self { log, first, since: at, last: at, awaited: false, carried, carried_at, ended }
    }

    /// Returns true if the cloud agent told all callers that nothing was taken.
    pub(super) fn was_kept(&self) -> bool {
        !self.ended.is_empty() && self.ended.iter().all(Ended::says_not_taken)
    }

    pub(super) fn carry(&mut self, at: UnixMicros, carried: &Carried) {
        self.last = at;
        self.awaited = true;
        let one = Attempt::of(carried);
        if !self.carried.contains(&one) {
            self.carried.push(one);
            self.carried_at.push(at);
        }
    }

    /// Returns the time of this attempt's first entry.
    pub(super) fn carried_at(&self, one: &Attempt) -> UnixMicros {
        let known = self.carried.iter().zip(&self.carried_at).find(|(known, _)| *known == one);
        known.map_or(self.last, |(_, at)| *at)
    }

    /// Takes an answer of the cloud agent to its caller.
    pub(super) fn answer(&mut self, at: UnixMicros, ended: &Ended) {
        self.last = at;
        self.end(ended);
    }

    /// Takes an outcome that the IDC committed. The cloud logs nothing for a conclusion after its
    /// answer.
    pub(super) fn commit(&mut self, at: UnixMicros, ended: &Ended) {
        if std::mem::take(&mut self.awaited) {
            self.last = at;
        }
        self.end(ended);
    }

    fn end(&mut self, ended: &Ended) {
        if !self.ended.contains(ended) {
            self.ended.push(ended.clone());
        }
    }
}

impl Attempt {
    fn of(carried: &Carried) -> Self {
        // Facts that were read from an entry can be written.
        let facts = Digest::of(&serde_json::to_vec(carried).unwrap_or_default());
        let Carried { action, order, payment, ciphertext, .. } = carried;
        let (action, payment) = (action.clone(), payment.clone());
        Self { action, order: *order, payment, ciphertext: *ciphertext, facts }
    }

    /// Returns true if both are the same attempt, even if other facts differ: an attempt has its
    /// own ids and its own sealed bytes. Another attempt at the same order may be another payment,
    /// or a cancellation by mistake under the key that placed it.
    pub(super) fn is_kin(&self, other: &Self) -> bool {
        let ids = (&self.action, self.order, &self.payment) == (&other.action, other.order, &other.payment);
        ids || (self.ciphertext.is_some() && self.ciphertext == other.ciphertext)
    }
}

/// Returns true if an answer is final: an order's has a ledger position, a payment's is one of
/// [`MONEY`].
pub(super) fn decides(answered: &Ended) -> bool {
    answered.position.is_some() || (answered.payment.is_some() && MONEY.contains(&answered.outcome.as_str()))
}

/// Returns true if both are the same end. A cloud agent of a release before launches knows a
/// refusal by a launch as `sold-out`.
pub(super) fn same_end(committed: &Ended, answered: &Ended) -> bool {
    let same = committed.outcome == answered.outcome
        || code_before_launches(committed.outcome.as_str()) == Some(answered.outcome.as_str());
    same && (committed.position, committed.order) == (answered.position, answered.order)
}
