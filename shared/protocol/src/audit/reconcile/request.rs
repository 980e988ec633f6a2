//! One request, and what each of the logs says of it.

use super::{LogId, Side};
use crate::audit::entry::{Carried, Digest, Ended, Word};
use crate::domain::{Brand, OrderId, UnixMicros};

/// How a payment or a refund ends, for certain.
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

/// A request, by its key: everything that was tried under it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) brand: Brand,
    /// The order, as the first entry has it.
    pub(super) order: OrderId,
    /// The cloud agents' logs: what was sent, and what callers were told.
    pub(super) cloud: Vec<LoggedRequest>,
    /// The IDC agents' logs: what was received, and what was committed.
    pub(super) idc: Vec<LoggedRequest>,
}

/// What one log says of one request.
#[derive(Debug)]
pub(super) struct LoggedRequest {
    pub(super) log: LogId,
    /// The first entry about it.
    pub(super) first: u64,
    pub(super) since: UnixMicros,
    /// When the last one was that the other side had a part in.
    pub(super) last: UnixMicros,
    /// Something was carried since anything ended.
    awaited: bool,
    /// What was carried, each once.
    pub(super) carried: Vec<Attempt>,
    /// When each of them was carried first.
    carried_at: Vec<UnixMicros>,
    /// The cloud: what callers were told. The IDC: what was committed.
    pub(super) ended: Vec<Ended>,
}

/// A request as it was carried once. A caller that tries again under its key gets another id each time, of the order that it places or
/// of the payment, and what is sealed again has other bytes: each of them is received as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    action: Word,
    order: OrderId,
    payment: Option<Word>,
    ciphertext: Option<Digest>,
    /// Of all its facts.
    facts: Digest,
}

impl Request {
    /// What this log says of it, from this entry on if it has said nothing yet.
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

    /// The order as the ledger has it, where that is known.
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

    /// The cloud: whether it told its callers that nothing was taken, by itself or by the IDC's word.
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

    /// When this was carried first.
    pub(super) fn carried_at(&self, one: &Attempt) -> UnixMicros {
        let known = self.carried.iter().zip(&self.carried_at).find(|(known, _)| *known == one);
        known.map_or(self.last, |(_, at)| *at)
    }

    /// The cloud tells its caller.
    pub(super) fn answer(&mut self, at: UnixMicros, ended: &Ended) {
        self.last = at;
        self.end(ended);
    }

    /// The IDC commits. What is concluded after an answer, by itself, gives the cloud no reason to say anything.
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
        // Facts that could be read can be written.
        let facts = Digest::of(&serde_json::to_vec(carried).unwrap_or_default());
        let Carried { action, order, payment, ciphertext, .. } = carried;
        let (action, payment) = (action.clone(), payment.clone());
        Self { action, order: *order, payment, ciphertext: *ciphertext, facts }
    }

    /// Whether both are of one try, though they may differ: a try's ids are its own, and so are sealed bytes. Another try for the
    /// same order may be another payment of it, or its cancellation by mistake under the key that placed it.
    pub(super) fn is_kin(&self, other: &Self) -> bool {
        let ids = (&self.action, self.order, &self.payment) == (&other.action, other.order, &other.payment);
        ids || (self.ciphertext.is_some() && self.ciphertext == other.ciphertext)
    }
}

/// Whether an answer says how something ended: an order's has a place in the ledger, a payment's tells of money.
pub(super) fn decides(answered: &Ended) -> bool {
    answered.position.is_some() || (answered.payment.is_some() && MONEY.contains(&answered.outcome.as_str()))
}

pub(super) fn same_end(committed: &Ended, answered: &Ended) -> bool {
    (&committed.outcome, committed.position, committed.order)
        == (&answered.outcome, answered.position, answered.order)
}
