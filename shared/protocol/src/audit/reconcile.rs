//! Compares the logs of the two ends of a tunnel: what one says was sent, the other must say was received, and how it
//! ended must be the same.
//!
//! A link or a process that ends takes along what was on its way: that is told apart from a difference by what the cloud's
//! log says after it. Where one log simply ends earlier than the other, what it would have said is merely in doubt.
//!
//! A payment may be answered "unknown" and be concluded later, under the same key and with nobody waiting: any outcome that
//! the IDC committed is one that a caller may have been told.

use std::collections::HashMap;
use std::fmt;

use super::entry::{Carried, Digest, Ended, Entry, Event, Word};
use crate::domain::{Brand, KeyDigest, OrderId, UnixMicros};

/// What the cloud tells a caller whose request stayed where it was: without a link, without room, with another one under
/// its key on the way, the same or not, or turned away at the IDC's door before it was looked at.
const NOT_TAKEN: [&str; 5] = ["not-sent", "full", "in-progress", "key-in-use", "busy"];

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

/// What both logs say, put together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Requests that both logs tell the same of.
    pub agreed: u64,
    /// Requests that were lost with a link or an agent before they were received, or whose answer was: the cloud's log
    /// says so, and told nobody otherwise.
    pub lost: u64,
    /// Requests that they tell differently of, in the order of the entries.
    pub differences: Vec<Difference>,
    /// Requests about which one log ends too early to tell.
    pub in_doubt: Vec<Difference>,
}

/// One request, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Whose shop.
    pub brand: Brand,
    /// The order.
    pub order: OrderId,
    /// The digest of brand and idempotency key.
    pub key: KeyDigest,
    /// The first entry about it in the cloud's log.
    pub cloud_entry: Option<u64>,
    /// The first entry about it in the IDC's log.
    pub idc_entry: Option<u64>,
    /// What is wrong.
    pub what: What,
}

/// What two logs tell differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The cloud sent it, and the IDC never received it.
    NeverReceived,
    /// The IDC received it, and the cloud never sent it.
    NeverSent,
    /// The IDC received other bytes than the cloud sent.
    OtherBytes,
    /// The IDC committed it without having received it.
    CommittedUnreceived,
    /// The IDC committed it, and the cloud never told its caller anything.
    NeverAnswered,
    /// The cloud told its caller an outcome that the IDC never committed.
    NeverCommitted {
        /// What the caller was told.
        answered: Word,
    },
    /// The cloud told its caller another outcome, or another place in the ledger, than the IDC committed.
    OtherOutcome {
        /// What was committed.
        committed: Word,
        /// What the caller was told.
        answered: Word,
    },
}

impl What {
    /// The code in `--json`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NeverReceived => "never-received",
            Self::NeverSent => "never-sent",
            Self::OtherBytes => "other-bytes",
            Self::CommittedUnreceived => "committed-unreceived",
            Self::NeverAnswered => "never-answered",
            Self::NeverCommitted { .. } => "never-committed",
            Self::OtherOutcome { .. } => "other-outcome",
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverReceived => f.write_str("sent and never received"),
            Self::NeverSent => f.write_str("received and never sent"),
            Self::OtherBytes => f.write_str("received with other bytes than were sent"),
            Self::CommittedUnreceived => f.write_str("committed and never received"),
            Self::NeverAnswered => f.write_str("committed and never answered"),
            Self::NeverCommitted { answered } => write!(f, "answered {answered} and never committed"),
            Self::OtherOutcome { committed, answered } => {
                write!(f, "committed {committed} and answered {answered}")
            }
        }
    }
}

/// Takes the entries of both logs, each log in its order, then tells.
#[derive(Debug, Default)]
pub struct Reconciler {
    requests: HashMap<KeyDigest, Request>,
    /// Keys in the order in which they came up, so that what is told has one order.
    order: Vec<KeyDigest>,
    cloud: Side,
    idc: Side,
}

/// How far a log goes.
#[derive(Debug, Default)]
struct Side {
    entries: u64,
    ends: Option<UnixMicros>,
    /// The last entry that tells of a link's end, or of an agent's that was not in order.
    cut: Option<u64>,
    /// The last entry of an agent that started although none had ended in order.
    crashed: Option<u64>,
    /// Whether the agent has started and not ended.
    runs: bool,
}

#[derive(Debug)]
struct Request {
    brand: Brand,
    order: OrderId,
    cloud: Told,
    idc: Told,
}

/// What one log says of one request.
#[derive(Debug, Default)]
struct Told {
    /// The first entry about it.
    first: Option<u64>,
    /// When the last one was that the other side had a part in.
    last: Option<UnixMicros>,
    /// Something was carried since anything ended.
    awaited: bool,
    /// The digests of what was carried, one for each time.
    carried: Vec<Option<Digest>>,
    /// The cloud: what callers were told. The IDC: what was committed.
    ended: Vec<Ended>,
}

impl Reconciler {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next entry of the cloud's log.
    pub fn cloud(&mut self, entry: &Entry) {
        let index = self.cloud.take(entry);
        self.cloud.take_end(index, &entry.event);
        match &entry.event {
            Event::OrderSent(sent) | Event::PaymentSent(sent) => {
                let told = &mut self.request(&sent.brand, sent.key, sent.order).cloud;
                told.carried(index, entry.at, sent);
            }
            Event::OrderAnswered(answered) | Event::PaymentAnswered(answered) => {
                let told = &mut self.request(&answered.brand, answered.key, answered.order).cloud;
                told.ended(index, entry.at, answered);
            }
            _ => {}
        }
    }

    /// Takes the next entry of the IDC's log.
    pub fn idc(&mut self, entry: &Entry) {
        let index = self.idc.take(entry);
        match &entry.event {
            Event::OrderReceived(received) | Event::PaymentReceived(received) => {
                let told = &mut self.request(&received.brand, received.key, received.order).idc;
                told.carried(index, entry.at, received);
            }
            Event::OrderCommitted(committed) | Event::PaymentCommitted(committed) => {
                let told = &mut self.request(&committed.brand, committed.key, committed.order).idc;
                let at = told.answered_at(entry.at);
                told.ended(index, at, committed);
            }
            _ => {}
        }
    }

    /// What both logs come to.
    pub fn finish(self) -> Reconciled {
        let mut reconciled = Reconciled::default();
        for key in &self.order {
            let Some(request) = self.requests.get(key) else { continue };
            let Some(what) = self.judge(request) else {
                reconciled.agreed += 1;
                continue;
            };
            let difference = Difference {
                brand: request.brand.clone(),
                order: request.order,
                key: *key,
                cloud_entry: request.cloud.first,
                idc_entry: request.idc.first,
                what,
            };
            if self.is_lost(request, &difference.what) {
                reconciled.lost += 1;
            } else if self.is_in_doubt(request, &difference.what) {
                reconciled.in_doubt.push(difference);
            } else {
                reconciled.differences.push(difference);
            }
        }
        reconciled
    }

    fn request(&mut self, brand: &Brand, key: KeyDigest, order: OrderId) -> &mut Request {
        self.requests.entry(key).or_insert_with(|| {
            self.order.push(key);
            Request { brand: brand.clone(), order, cloud: Told::default(), idc: Told::default() }
        })
    }

    /// What is wrong with a request, the gravest thing first.
    fn judge(&self, Request { cloud, idc, .. }: &Request) -> Option<What> {
        let mut answers = cloud.ended.iter().filter(|answered| decides(answered));
        let committed = idc.ended.iter().rfind(|committed| decides(committed));
        let is_committed = |answered: &&Ended| idc.ended.iter().any(|is| same_end(is, answered));
        if let Some(answered) = answers.find(|answered| !is_committed(answered)) {
            let answered = answered.outcome.clone();
            return Some(match committed {
                None => What::NeverCommitted { answered },
                Some(committed) => What::OtherOutcome { committed: committed.outcome.clone(), answered },
            });
        }
        if idc.first.is_some() && cloud.carried.is_empty() {
            return Some(What::NeverSent);
        }
        if idc.carried.iter().any(|received| !cloud.carried.contains(received)) {
            return Some(What::OtherBytes);
        }
        if !idc.ended.is_empty() && idc.carried.is_empty() {
            return Some(What::CommittedUnreceived);
        }
        if !cloud.carried.is_empty() && idc.carried.is_empty() {
            return (!cloud.was_kept()).then_some(What::NeverReceived);
        }
        (!idc.ended.is_empty() && cloud.ended.is_empty()).then_some(What::NeverAnswered)
    }

    /// Whether it was on its way when a link ended, or its caller when the cloud agent died. A link's end is no reason to
    /// tell a caller nothing: "unknown" is an answer.
    fn is_lost(&self, Request { cloud, .. }: &Request, what: &What) -> bool {
        let after = |end: Option<u64>| cloud.first.is_some_and(|sent| end.is_some_and(|end| end > sent));
        match what {
            What::NeverReceived => after(self.cloud.cut),
            What::NeverAnswered => after(self.cloud.crashed),
            _ => false,
        }
    }

    /// Whether the log that says nothing of it ends before it would have.
    fn is_in_doubt(&self, Request { cloud, idc, .. }: &Request, what: &What) -> bool {
        let beyond =
            |said: &Told, other: &Side| said.last.is_some_and(|at| other.ends.is_none_or(|ends| at >= ends));
        match what {
            What::NeverReceived | What::NeverCommitted { .. } => beyond(cloud, &self.idc),
            What::NeverSent | What::NeverAnswered => beyond(idc, &self.cloud),
            What::OtherBytes | What::CommittedUnreceived | What::OtherOutcome { .. } => false,
        }
    }
}

impl Side {
    fn take(&mut self, entry: &Entry) -> u64 {
        self.ends = self.ends.max(Some(entry.at));
        self.entries += 1;
        self.entries - 1
    }

    fn take_end(&mut self, index: u64, event: &Event) {
        match event {
            Event::AgentStarted(_) => {
                if self.runs {
                    (self.cut, self.crashed) = (Some(index), Some(index));
                }
                self.runs = true;
            }
            Event::AgentStopped(_) => self.runs = false,
            Event::TunnelClosed(_) => self.cut = Some(index),
            _ => {}
        }
    }
}

impl Told {
    /// The cloud: whether it told its callers that nothing was taken, by itself or by the IDC's word.
    fn was_kept(&self) -> bool {
        let keeps = |answered: &Ended| NOT_TAKEN.contains(&answered.outcome.as_str());
        !self.ended.is_empty() && self.ended.iter().all(keeps)
    }

    fn carried(&mut self, index: u64, at: UnixMicros, carried: &Carried) {
        self.at(index, at);
        self.awaited = true;
        if !self.carried.contains(&carried.ciphertext) {
            self.carried.push(carried.ciphertext);
        }
    }

    fn ended(&mut self, index: u64, at: UnixMicros, ended: &Ended) {
        self.at(index, at);
        if !self.ended.contains(ended) {
            self.ended.push(ended.clone());
        }
    }

    /// When it was answered, by an entry of the IDC's at that time. What is concluded after an answer, by itself, gives the
    /// cloud no reason to say anything.
    fn answered_at(&mut self, at: UnixMicros) -> UnixMicros {
        if std::mem::take(&mut self.awaited) { at } else { self.last.unwrap_or(at) }
    }

    fn at(&mut self, index: u64, at: UnixMicros) {
        self.first.get_or_insert(index);
        self.last = Some(at);
    }
}

/// Whether an answer says how something ended: an order's has a place in the ledger, a payment's tells of money.
fn decides(answered: &Ended) -> bool {
    answered.position.is_some() || (answered.payment.is_some() && MONEY.contains(&answered.outcome.as_str()))
}

fn same_end(committed: &Ended, answered: &Ended) -> bool {
    (&committed.outcome, committed.position, committed.order)
        == (&answered.outcome, answered.position, answered.order)
}

#[cfg(test)]
mod tests;
