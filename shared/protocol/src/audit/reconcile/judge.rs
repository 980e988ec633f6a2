//! What is wrong with a request, by all that the logs say of it.
//!
//! A log that is not among those that are compared says nothing, and that is no difference: whose it is, the links tell that
//! the other side's agents had then.

use std::collections::BTreeSet;

use super::log::{Log, Side};
use super::request::{Request, Told, Try, decides, same_end};
use super::{LogId, What};
use crate::audit::entry::{Ended, Word};
use crate::domain::UnixMicros;

/// What the logs come to about one request, the gravest first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They tell it differently.
    Differs(What),
    /// The log of one of these agents would say it, and is not given.
    NotGiven(What, BTreeSet<Word>),
    /// One log ends too early to tell.
    InDoubt(What),
    /// It was lost with a link or an agent.
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

/// Judges requests by logs.
pub(super) struct Judge<'logs> {
    logs: &'logs [Log],
    /// Agents that the logs name, and that no log here is of.
    missing: BTreeSet<&'logs Word>,
}

/// The other side of what a log says.
struct Others<'logs> {
    /// Logs that may have it.
    given: Vec<&'logs Log>,
    /// Agents without a log here that may have it.
    missing: BTreeSet<Word>,
}

impl Others<'_> {
    /// Whether one of the logs ends early, before it could have what it would have of a request then.
    fn are_cut_off(&self, at: UnixMicros) -> bool {
        self.given.iter().any(|log| log.is_cut_off(at))
    }
}

impl<'logs> Judge<'logs> {
    pub(super) fn new(logs: &'logs [Log]) -> Self {
        let missing = [Side::Cloud, Side::Idc].into_iter().flat_map(|side| missing(logs, side)).collect();
        Self { logs, missing }
    }

    /// Agents without a log here.
    pub(super) fn missing(&self) -> impl Iterator<Item = &Word> {
        self.missing.iter().copied()
    }

    /// `None` if the logs agree.
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
            let cut_off = others.are_cut_off(told.last);
            Some(match last {
                None => {
                    let ends = cut_off || self.ends_before(told.last, &others);
                    weigh(What::NeverCommitted { answered: said }, others.missing, ends, false)
                }
                Some(last) => {
                    // An order has one end. What else a payment came to, an agent may know that is not asked here.
                    let is_order = last.position.is_some();
                    let missing = if is_order { BTreeSet::new() } else { others.missing };
                    let committed = last.outcome.clone();
                    weigh(
                        What::OtherOutcome { committed, answered: said },
                        missing,
                        cut_off && !is_order,
                        false,
                    )
                }
            })
        });
        gravest(lies)
    }

    fn received_and_not_sent(&self, Request { cloud, idc, .. }: &Request) -> Option<Verdict> {
        let sent = || cloud.iter().flat_map(|told| &told.carried);
        let strange = |received: &&Try| !sent().any(|sent| sent == *received);
        let unsent = idc.iter().filter_map(|told| {
            let received = told.carried.iter().find(strange);
            let others = self.others(told, Some(told.last));
            let cut_off = others.are_cut_off(told.last);
            match received {
                Some(received) if sent().any(|sent| sent.is_kin(received)) => {
                    return Some(weigh(What::OtherBytes, BTreeSet::new(), cut_off, false));
                }
                None if sent().next().is_some() || !told.carried.is_empty() => return None,
                _ => {}
            }
            let ends = cut_off || self.ends_before(told.last, &others);
            Some(weigh(What::NeverSent, others.missing, ends, false))
        });
        gravest(unsent)
    }

    fn committed_and_not_received(&self, Request { cloud, idc, .. }: &Request) -> Option<Verdict> {
        let is_committed = idc.iter().any(|told| !told.ended.is_empty());
        if !is_committed || idc.iter().any(|told| !told.carried.is_empty()) {
            return None;
        }
        let missing = cloud.iter().flat_map(|told| self.idcs_of(told).missing).collect();
        // It may have been received at another agent than the one that committed it.
        let committed = idc.iter().map(|told| told.last).max();
        let mut others = self.logs.iter().filter(|log| log.side == Side::Idc);
        let cut_off = committed.is_some_and(|at| others.any(|log| log.is_cut_off(at)));
        Some(weigh(What::CommittedUnreceived, missing, cut_off, false))
    }

    fn sent_and_not_received(&self, Request { cloud, idc, .. }: &Request) -> Option<Verdict> {
        if idc.iter().any(|told| !told.carried.is_empty()) {
            return None;
        }
        let unreceived = cloud.iter().filter(|told| !told.carried.is_empty() && !told.was_kept());
        gravest(unreceived.map(|told| {
            let others = self.idcs_of(told);
            // On its way when a link ended.
            let log = self.log(told.log);
            let lost = log.and_then(|log| log.cut).is_some_and(|cut| cut > told.first);
            // Behind its own early end it may say so.
            let is_silent = told.ended.is_empty() && log.is_some_and(|log| log.is_cut_off(told.last));
            let ends = is_silent || others.are_cut_off(told.last) || self.ends_before(told.last, &others);
            weigh(What::NeverReceived, others.missing, ends, lost)
        }))
    }

    /// A link's end is no reason to tell a caller nothing: "unknown" is an answer. Only an agent that dies says nothing.
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
            let ends = log.is_cut_off(last) || self.goes_to(log).is_none_or(|ends| last >= ends);
            Some(weigh(What::NeverAnswered, BTreeSet::new(), ends, lost))
        }))
    }

    /// The IDC agents to whom a cloud agent may have sent something: until it was answered for good, it is sent again.
    fn idcs_of(&self, told: &Told) -> Others<'logs> {
        let is_decided = told.ended.iter().any(decides);
        self.others(told, is_decided.then_some(told.last))
    }

    fn others(&self, told: &Told, to: Option<UnixMicros>) -> Others<'logs> {
        let Some(log) = self.log(told.log) else {
            return Others { given: Vec::new(), missing: BTreeSet::new() };
        };
        let peers = log.peers_between(told.since, to);
        let missing = peers.iter().filter(|peer| self.missing.contains(**peer)).map(|peer| (*peer).clone());
        let missing = missing.collect();
        let all = || self.logs.iter().filter(|other| other.side != log.side);
        let of_peers: Vec<&Log> = all().filter(|other| peers.iter().any(|peer| other.is_of(peer))).collect();
        let given = if of_peers.is_empty() { all().collect() } else { of_peers };
        Others { given, missing }
    }

    /// Whether one of these logs ends before it could have what the other side logged then.
    fn ends_before(&self, at: UnixMicros, others: &Others<'_>) -> bool {
        let ends = |log: &&Log| self.goes_to(log).is_none_or(|ends| at >= ends);
        others.given.is_empty() || others.given.iter().any(ends)
    }

    /// How far an agent's logs go, one of which this is.
    fn goes_to(&self, log: &Log) -> Option<UnixMicros> {
        let kin = self.logs.iter().filter(|other| other.is_kin(log)).filter_map(|other| other.ends).max();
        kin.max(log.ends)
    }

    fn log(&self, id: LogId) -> Option<&'logs Log> {
        self.logs.get(id.0)
    }
}

/// The agents of a side that the other side's logs name and that no log here is of. An agent may be called otherwise in its
/// certificate than in its log: so a log whose agent nobody names counts for one that has none.
fn missing(logs: &[Log], side: Side) -> Vec<&Word> {
    let peers: BTreeSet<&Word> = logs.iter().filter(|log| log.side != side).flat_map(Log::peers).collect();
    let own = || logs.iter().filter(|log| log.side == side);
    let nobodys = own().filter(|log| !peers.iter().any(|peer| log.is_of(peer))).count();
    let missing: Vec<&Word> = peers.into_iter().filter(|peer| !own().any(|log| log.is_of(peer))).collect();
    if missing.len() > nobodys { missing } else { Vec::new() }
}

fn weigh(what: What, missing: BTreeSet<Word>, ends_early: bool, lost: bool) -> Verdict {
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
