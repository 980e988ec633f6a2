//! Finds the fault of a request from all entries about it.
//!
//! A log that is not given has no entries, and that is no difference. The links in the other side's
//! logs show which agent's log it is.

use std::collections::BTreeSet;

use super::log::{Log, Side};
use super::request::{Attempt, LoggedRequest, Request, decides, same_end};
use super::{DifferenceKind, LogId};
use crate::audit::entry::{Ended, Word};
use crate::domain::UnixMicros;

/// Result for one request, the gravest first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The logs differ.
    Differs(DifferenceKind),
    /// One of these agents has the missing entry in its log, which is not given.
    NotGiven(DifferenceKind, BTreeSet<Word>),
    /// One log ends too early to tell.
    InDoubt(DifferenceKind),
    /// The request was lost with a link or an agent.
    Lost,
}

impl Verdict {
    fn rank(&self) -> u8 {
        match self {
            Self::Differs(_) => 0,
            Self::NotGiven(..) => 1,
            Self::InDoubt(_) => 2,
            Self::Lost => 3,
        }
    }
}

/// Compares requests by the logs.
pub(super) struct Comparer<'logs> {
    logs: &'logs [Log],
    /// Agents that the logs name but whose logs are not given.
    missing: BTreeSet<&'logs Word>,
}

/// The agents on the other side that may have an entry.
struct OtherSide<'logs> {
    /// Given logs that may have it.
    given: Vec<&'logs Log>,
    /// Agents that may have it and whose logs are not given.
    missing: BTreeSet<Word>,
}

impl<'logs> Comparer<'logs> {
    pub(super) fn new(logs: &'logs [Log]) -> Self {
        let missing = [Side::Cloud, Side::Idc].into_iter().flat_map(|side| missing(logs, side)).collect();
        Self { logs, missing }
    }

    /// Returns the agents whose logs are not given.
    pub(super) fn missing(&self) -> impl Iterator<Item = &Word> {
        self.missing.iter().copied()
    }

    fn missing_of(&self, side: Side) -> impl Iterator<Item = &Word> {
        self.missing().filter(move |agent| Side::of_origin(agent.as_str()) == Some(side))
    }

    /// Returns the gravest result, or `None` if the logs agree.
    pub(super) fn judge(&self, request: &Request) -> Option<Verdict> {
        let found = [
            self.told_and_not_committed(request),
            self.received_and_not_sent(request),
            self.committed_and_not_received(request),
            self.sent_and_not_received(request),
            self.committed_and_not_answered(request),
        ];
        found.into_iter().flatten().min_by_key(Verdict::rank)
    }

    fn told_and_not_committed(&self, Request { cloud, idc, .. }: &Request) -> Option<Verdict> {
        let committed = || idc.iter().flat_map(|told| &told.ended);
        let is_committed = |answered: &Ended| committed().any(|is| same_end(is, answered));
        let last = committed().rfind(|committed| decides(committed));
        let lies = cloud.iter().filter_map(|told| {
            let mut answers = told.ended.iter().filter(|answered| decides(answered));
            let answered = answers.find(|answered| !is_committed(answered))?;
            let others = self.idcs_of(told);
            let said = answered.outcome.clone();
            let ends = self.ends_before(told.last, &others);
            Some(match last {
                None => weigh(DifferenceKind::NeverCommitted { answered: said }, others.missing, ends, false),
                Some(last) => {
                    let (committed, is_order) = (last.outcome.clone(), last.position.is_some());
                    let what = DifferenceKind::OtherOutcome { committed, answered: said };
                    // An order has one outcome. A payment may have further ones: in the log of an
                    // agent that is not given, or behind the end of this log.
                    let missing = if is_order { BTreeSet::new() } else { others.missing };
                    weigh(what, missing, ends && !is_order, false)
                }
            })
        });
        gravest(lies)
    }

    fn received_and_not_sent(&self, Request { cloud, idc, .. }: &Request) -> Option<Verdict> {
        let sent = || cloud.iter().flat_map(|told| &told.carried);
        let strange = |received: &&Attempt| !sent().any(|sent| sent == *received);
        let unsent = idc.iter().filter_map(|told| {
            let received = told.carried.iter().find(strange);
            let (what, at) = match received {
                // Another attempt at the same order may have come through an agent whose log is not
                // given or ends earlier.
                Some(received) if sent().any(|sent| sent.is_kin(received)) => {
                    (DifferenceKind::OtherBytes, told.carried_at(received))
                }
                Some(received) => (DifferenceKind::NeverSent, told.carried_at(received)),
                None if sent().next().is_some() || !told.carried.is_empty() => return None,
                None => (DifferenceKind::NeverSent, told.last),
            };
            let others = self.others(told, Some(told.last));
            let ends = self.ends_before(at, &others);
            Some(weigh(what, others.missing, ends, false))
        });
        gravest(unsent)
    }

    fn committed_and_not_received(&self, Request { cloud, idc, .. }: &Request) -> Option<Verdict> {
        let committed = idc.iter().filter(|told| !told.ended.is_empty());
        let first = committed.map(|told| told.since).min()?;
        if idc.iter().any(|told| !told.carried.is_empty()) {
            return None;
        }
        // The cloud agents' logs show which IDC agents it was sent to, if all of them are given.
        let is_known = !cloud.is_empty() && self.missing_of(Side::Cloud).next().is_none();
        let missing = if is_known {
            cloud.iter().flat_map(|told| self.idcs_of(told).missing).collect()
        } else {
            self.missing_of(Side::Idc).cloned().collect()
        };
        // One agent may have received the payment that another one concludes.
        let is_own = |log: &Log| idc.iter().any(|told| self.log(told.log).is_some_and(|own| own.is_kin(log)));
        let mut others = self.logs.iter().filter(|log| log.side == Side::Idc && !is_own(log));
        let ends = others.any(|log| self.ends_by(log, first));
        Some(weigh(DifferenceKind::CommittedUnreceived, missing, ends, false))
    }

    fn sent_and_not_received(&self, Request { cloud, idc, .. }: &Request) -> Option<Verdict> {
        if idc.iter().any(|told| !told.carried.is_empty()) {
            return None;
        }
        let unreceived = cloud.iter().filter(|told| !told.carried.is_empty() && !told.was_kept());
        gravest(unreceived.map(|told| {
            let others = self.idcs_of(told);
            // It was on its way when a link ended.
            let log = self.log(told.log);
            let lost = log.and_then(|log| log.cut).is_some_and(|cut| cut > told.first);
            // The answer may be behind the early end of this log.
            let is_silent = told.ended.is_empty() && log.is_some_and(|log| self.ends_by(log, told.last));
            let ends = is_silent || self.ends_before(told.last, &others);
            weigh(DifferenceKind::NeverReceived, others.missing, ends, lost)
        }))
    }

    /// An answer of "unknown" is an answer, so the end of a link does not excuse silence. Only an
    /// agent that died may have said nothing.
    fn committed_and_not_answered(&self, Request { cloud, idc, .. }: &Request) -> Option<Verdict> {
        if idc.iter().all(|told| told.ended.is_empty()) {
            return None;
        }
        let silent = cloud.iter().filter(|told| !told.carried.is_empty() && told.ended.is_empty());
        gravest(silent.filter_map(|told| {
            let received = idc.iter().filter(|idc| idc.carried.iter().any(|one| told.carried.contains(one)));
            let last = received.map(|idc| idc.last).max()?;
            let log = self.log(told.log)?;
            let lost = log.crashed.is_some_and(|crashed| crashed > told.first);
            let ends = self.ends_by(log, last);
            Some(weigh(DifferenceKind::NeverAnswered, BTreeSet::new(), ends, lost))
        }))
    }

    /// Returns the IDC agents that a cloud agent may have sent a request to. It is sent again until
    /// its answer is final.
    fn idcs_of(&self, told: &LoggedRequest) -> OtherSide<'logs> {
        let is_decided = told.ended.iter().any(decides);
        self.others(told, is_decided.then_some(told.last))
    }

    fn others(&self, told: &LoggedRequest, to: Option<UnixMicros>) -> OtherSide<'logs> {
        let Some(log) = self.log(told.log) else {
            return OtherSide { given: Vec::new(), missing: BTreeSet::new() };
        };
        let peers = log.peers_between(told.since, to);
        let missing = peers.iter().filter(|peer| self.missing.contains(**peer)).map(|peer| (*peer).clone());
        let missing = missing.collect();
        let all = || self.logs.iter().filter(|other| other.side != log.side);
        let of_peers: Vec<&Log> = all().filter(|other| peers.iter().any(|peer| other.is_of(peer))).collect();
        let given = if of_peers.is_empty() { all().collect() } else { of_peers };
        OtherSide { given, missing }
    }

    /// Returns true if one of these logs ends before it must have an entry for an event that the
    /// other side logged at `at`.
    fn ends_before(&self, at: UnixMicros, others: &OtherSide<'_>) -> bool {
        others.given.is_empty() || others.given.iter().any(|log| self.ends_by(log, at))
    }

    /// Returns true if an agent's log, and every other log of the same agent, ends before it must
    /// have an entry for an event that the other side logged at `at`. A log that was begun later
    /// does not have the entries behind an early end.
    fn ends_by(&self, log: &Log, at: UnixMicros) -> bool {
        let goes_on = |kin: &Log| !kin.ends_by(at);
        let is_followed = self.logs.iter().any(|other| other.is_kin(log) && goes_on(other));
        log.ends_by(at) && (log.ends_early || !is_followed)
    }

    fn log(&self, id: LogId) -> Option<&'logs Log> {
        self.logs.get(id.0)
    }
}

/// Returns the agents of a side that the other side's logs name but whose logs are not given.
///
/// An agent's name in its certificate may differ from the name in its log. So each log whose agent
/// nobody names counts for one agent without a log.
fn missing(logs: &[Log], side: Side) -> Vec<&Word> {
    let peers: BTreeSet<&Word> = logs.iter().filter(|log| log.side != side).flat_map(Log::peers).collect();
    let own = || logs.iter().filter(|log| log.side == side);
    let nobodys = own().filter(|log| !peers.iter().any(|peer| log.is_of(peer))).count();
    let missing: Vec<&Word> = peers.into_iter().filter(|peer| !own().any(|log| log.is_of(peer))).collect();
    if missing.len() > nobodys { missing } else { Vec::new() }
}

fn weigh(what: DifferenceKind, missing: BTreeSet<Word>, ends_early: bool, lost: bool) -> Verdict {
    match (missing.is_empty(), lost, ends_early) {
        (false, ..) => Verdict::NotGiven(what, missing),
        (true, true, _) => Verdict::Lost,
        (true, false, true) => Verdict::InDoubt(what),
        (true, false, false) => Verdict::Differs(what),
    }
}

fn gravest(found: impl Iterator<Item = Verdict>) -> Option<Verdict> {
    found.min_by_key(Verdict::rank)
}
