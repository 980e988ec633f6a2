//! Compares the logs of the two ends of a tunnel, any number of agents at each: what one side says was sent, the other must say
//! was received, and how it ended must be the same.
//!
//! A link or a process that ends takes along what was on its way: that is told apart from a difference by what the cloud's
//! log says after it. Where one log simply ends earlier than the other, what it would have said is merely in doubt. Where an
//! agent's log is not given that the others name, what it would have said is not known.
//!
//! A caller may try again under its key, through any cloud agent: each try is received as it was sent, and all of them have one
//! end. A payment may be answered "unknown" and be concluded later, under the same key and with nobody waiting: any outcome that
//! an IDC agent committed is one that a caller may have been told.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use super::entry::{Entry, Event, Word};
use crate::domain::{Brand, KeyDigest, OrderId, UnixMicros};

// One of the logs.
mod log;

// What they say of one request.
mod request;

// What that comes to.
mod comparer;
pub use log::Side;

use comparer::{Comparer, Verdict};
use log::Log;
use request::{LoggedRequest, Request};

/// What all logs say, put together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Requests that the logs tell the same of.
    pub agreed: u64,
    /// Requests that were lost with a link or an agent before they were received, or whose answer was: the cloud's log
    /// says so, and told nobody otherwise.
    pub lost: u64,
    /// Requests that they tell differently of, in the order of the entries.
    pub differences: Vec<Difference>,
    /// Requests about which one log ends too early to tell.
    pub in_doubt: Vec<Difference>,
    /// Requests of which an agent would tell whose log is not given.
    pub not_given: Vec<Difference>,
    /// All agents that the logs name and whose logs are not given, by their SPIFFE IDs.
    pub missing: BTreeSet<Word>,
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
    /// The first entry about it in a cloud agent's log.
    pub cloud_entry: Option<u64>,
    /// The first entry about it in an IDC agent's log.
    pub idc_entry: Option<u64>,
    /// The first entry about it in each log that has one.
    pub entries: Vec<(LogId, u64)>,
    /// What is wrong.
    pub what: DifferenceKind,
    /// The agents of which one would tell, if its log were given.
    pub agents: BTreeSet<Word>,
}

/// What logs tell differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DifferenceKind {
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

impl DifferenceKind {
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

impl fmt::Display for DifferenceKind {
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

/// Which of the logs: they count in the order in which [`Reconciler::log`] heard of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(usize);

impl LogId {
    /// Its place among the logs, from 0.
    pub fn index(self) -> usize {
        self.0
    }
}

/// Takes the entries of all logs, each log in its order, then tells.
#[derive(Debug, Default)]
pub struct Reconciler {
    logs: Vec<Log>,
    requests: HashMap<KeyDigest, Request>,
    /// Keys in the order in which they came up, so that what is told has one order.
    order: Vec<KeyDigest>,
    /// The logs of [`Self::cloud`] and [`Self::idc`].
    pair: [Option<LogId>; 2],
}

impl Reconciler {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another log of this side, by its origin.
    pub fn log(&mut self, side: Side, origin: &str) -> LogId {
        self.logs.push(Log::new(side, origin));
        LogId(self.logs.len() - 1)
    }

    /// Takes the next entry of the cloud's log, where there is one.
    pub fn cloud(&mut self, entry: &Entry) {
        let log = self.of_a_pair(Side::Cloud);
        self.take(log, entry);
    }

    /// Takes the next entry of the IDC's log, where there is one.
    pub fn idc(&mut self, entry: &Entry) {
        let log = self.of_a_pair(Side::Idc);
        self.take(log, entry);
    }

    fn of_a_pair(&mut self, side: Side) -> LogId {
        let at = usize::from(side == Side::Idc);
        if let Some(log) = self.pair[at] {
            return log;
        }
        let log = self.log(side, "");
        self.pair[at] = Some(log);
        log
    }

    /// Takes the next entry of a log.
    pub fn take(&mut self, id: LogId, entry: &Entry) {
        let Some(log) = self.logs.get_mut(id.0) else { return };
        let (side, index, at) = (log.side, log.take(entry), entry.at);
        match (side, &entry.event) {
            (Side::Cloud, Event::OrderSent(carried) | Event::PaymentSent(carried))
            | (Side::Idc, Event::OrderReceived(carried) | Event::PaymentReceived(carried)) => {
                let request = self.request(&carried.brand, carried.key, carried.order);
                request.told(side, id, index, at).carry(at, carried);
            }
            (Side::Cloud, Event::OrderAnswered(answered) | Event::PaymentAnswered(answered)) => {
                let request = self.request(&answered.brand, answered.key, answered.order);
                request.told(side, id, index, at).answer(at, answered);
            }
            (Side::Idc, Event::OrderCommitted(committed) | Event::PaymentCommitted(committed)) => {
                let request = self.request(&committed.brand, committed.key, committed.order);
                request.told(side, id, index, at).commit(at, committed);
            }
            _ => {}
        }
    }

    /// This log is given up to an early end: its agent has logged more.
    pub fn ends_early(&mut self, id: LogId) {
        if let Some(log) = self.logs.get_mut(id.0) {
            log.ends_early = true;
        }
    }

    /// How far a log goes that was taken so far: its entries, and the latest time of one.
    pub fn reach(&self, id: LogId) -> (u64, Option<UnixMicros>) {
        self.logs.get(id.0).map_or((0, None), |log| (log.entries, log.ends))
    }

    /// The first entry of a log that only the other side's agents log, if there is one: then it is no log of one agent.
    pub fn foreign_entry(&self, id: LogId) -> Option<u64> {
        self.logs.get(id.0)?.foreign
    }

    /// What the logs come to.
    pub fn finish(self) -> Reconciled {
        let judge = Comparer::new(&self.logs);
        let missing = judge.missing().cloned().collect();
        let mut reconciled = Reconciled { missing, ..Reconciled::default() };
        for key in &self.order {
            let Some(request) = self.requests.get(key) else { continue };
            let difference = |what, agents| difference(*key, request, what, agents);
            match judge.judge(request) {
                None => reconciled.agreed += 1,
                Some(Verdict::Lost) => reconciled.lost += 1,
                Some(Verdict::InDoubt(what)) => {
                    reconciled.in_doubt.push(difference(what, BTreeSet::new()));
                }
                Some(Verdict::NotGiven(what, agents)) => reconciled.not_given.push(difference(what, agents)),
                Some(Verdict::Differs(what)) => {
                    reconciled.differences.push(difference(what, BTreeSet::new()));
                }
            }
        }
        reconciled
    }

    fn request(&mut self, brand: &Brand, key: KeyDigest, order: OrderId) -> &mut Request {
        self.requests.entry(key).or_insert_with(|| {
            self.order.push(key);
            Request { brand: brand.clone(), order, cloud: Vec::new(), idc: Vec::new() }
        })
    }
}

fn difference(key: KeyDigest, request: &Request, what: DifferenceKind, agents: BTreeSet<Word>) -> Difference {
    let first = |told: &[LoggedRequest]| told.first().map(|told| told.first);
    let both = request.cloud.iter().chain(&request.idc);
    Difference {
        brand: request.brand.clone(),
        order: request.order(),
        key,
        cloud_entry: first(&request.cloud),
        idc_entry: first(&request.idc),
        entries: both.map(|told| (told.log, told.first)).collect(),
        what,
        agents,
    }
}

#[cfg(test)]
mod tests;
