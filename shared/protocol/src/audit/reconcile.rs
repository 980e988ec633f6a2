//! Compares the logs at both ends of a tunnel, with any number of agents at each end. Every request
//! that the cloud sent must be received by the IDC, and both must log the same outcome.
//!
//! A link or a process that ends can lose requests on the way. The cloud agent's later entries
//! distinguish such a loss from a difference. If one log ends earlier than the other, its missing
//! entries are only in doubt. If the log of an agent that the others name is not given, its entries
//! are unknown.
//!
//! A caller may repeat a request under its key, through any cloud agent. Each attempt is received
//! as it was sent, and all attempts have one outcome. A payment may be answered "unknown" and be
//! concluded later under the same key, while no caller waits. So a caller may have been told any
//! outcome that an IDC agent committed.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use super::entry::{Entry, Event, Word};
use crate::domain::{Brand, KeyDigest, OrderId, UnixMicros};

// One of the logs.
mod log;

// The entries of all logs about one request.
mod request;

// The result of the comparison of these entries.
mod comparer;
pub use log::Side;

use comparer::{Comparer, Verdict};
use log::Log;
use request::{LoggedRequest, Request};

/// Result of comparing all logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Requests on which the logs agree.
    pub agreed: u64,
    /// Requests that were lost before they were received, or whose answer was lost, with a link or
    /// an agent. The cloud agent's log shows the loss, and no caller was told otherwise.
    pub lost: u64,
    /// Requests on which the logs differ, in the order of the entries.
    pub differences: Vec<Difference>,
    /// Requests that one log ends too early to decide.
    pub in_doubt: Vec<Difference>,
    /// Requests that only a log that was not given could decide.
    pub not_given: Vec<Difference>,
    /// SPIFFE IDs of all agents that the logs name and whose logs are not given.
    pub missing: BTreeSet<Word>,
}

/// One request and its fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Brand of the request.
    pub brand: Brand,
    /// The order's id.
    pub order: OrderId,
    /// Digest of brand and idempotency key.
    pub key: KeyDigest,
    /// First entry about it in a cloud agent's log.
    pub cloud_entry: Option<u64>,
    /// First entry about it in an IDC agent's log.
    pub idc_entry: Option<u64>,
    /// First entry about it in each log that has one.
    pub entries: Vec<(LogId, u64)>,
    /// Kind of the difference.
    pub what: DifferenceKind,
    /// Agents of which one has the missing entry in its log.
    pub agents: BTreeSet<Word>,
}

/// Kind of a difference between logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DifferenceKind {
    /// The cloud sent it, and the IDC never received it.
    NeverReceived,
    /// The IDC received it, but the cloud never sent it.
    NeverSent,
    /// The IDC received other bytes than the cloud sent.
    OtherBytes,
    /// The IDC committed it but never received it.
    CommittedUnreceived,
    /// The IDC committed it, but the cloud never answered its caller.
    NeverAnswered,
    /// The cloud told its caller an outcome that the IDC never committed.
    NeverCommitted {
        /// Outcome that the caller was told.
        answered: Word,
    },
    /// The cloud told its caller another outcome or ledger position than the IDC committed.
    OtherOutcome {
        /// Outcome that was committed.
        committed: Word,
        /// Outcome that the caller was told.
        answered: Word,
    },
}

impl DifferenceKind {
    /// Returns the code for `--json`.
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

/// Number of a log, in the order of the calls of [`Reconciler::log`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(usize);

impl LogId {
    /// Returns the log's index, from 0.
    pub fn index(self) -> usize {
        self.0
    }
}

/// Takes the entries of all logs, each log in its order, and then compares them.
#[derive(Debug, Default)]
pub struct Reconciler {
    logs: Vec<Log>,
    requests: HashMap<KeyDigest, Request>,
    /// Keys in the order of their first entries, so that the result has a fixed order.
    order: Vec<KeyDigest>,
    /// The logs of [`Self::cloud`] and [`Self::idc`].
    pair: [Option<LogId>; 2],
}

impl Reconciler {
    /// Makes a reconciler without logs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a log of this side, by its origin.
    pub fn log(&mut self, side: Side, origin: &str) -> LogId {
        self.logs.push(Log::new(side, origin));
        LogId(self.logs.len() - 1)
    }

    /// Takes the next entry of the cloud's log, if there is only one.
    pub fn cloud(&mut self, entry: &Entry) {
        let log = self.of_a_pair(Side::Cloud);
        self.take(log, entry);
    }

    /// Takes the next entry of the IDC's log, if there is only one.
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

    /// Marks a log that is given only up to an early end. Its agent has logged more.
    pub fn ends_early(&mut self, id: LogId) {
        if let Some(log) = self.logs.get_mut(id.0) {
            log.ends_early = true;
        }
    }

    /// Returns the extent of a log so far: its entries, and the latest time of one.
    pub fn reach(&self, id: LogId) -> (u64, Option<UnixMicros>) {
        self.logs.get(id.0).map_or((0, None), |log| (log.entries, log.ends))
    }

    /// Returns the first entry of a log that only agents of the other side write. Such a log is not
    /// of one agent.
    pub fn foreign_entry(&self, id: LogId) -> Option<u64> {
        self.logs.get(id.0)?.foreign
    }

    /// Compares the logs and returns the result.
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
