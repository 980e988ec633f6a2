//! Comparison of the logs of all agents, as an auditor makes it at the end. Each log is read as its
//! disk has it after all crashes. A second comparison leaves one log out.

use std::time::Duration;

use bridge_protocol::audit::entry::{Carried, Closed, Digest, Ended, Opened, Started, Stopped, Word};
use bridge_protocol::audit::journal::Reader;
use bridge_protocol::audit::reconcile::{Difference, DifferenceKind, Reconciled, Reconciler, Side};
use bridge_protocol::audit::{Entry, Event as Logged};
use bridge_protocol::domain::{KeyDigest, OrderId, PaymentId};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::wire::order::to_idc;

use super::super::options::Sabotage;
use super::super::reference::answer::Payment;
use super::clocks::Host;
use super::replies::{CallerReply, NoEffect};
use super::{World, note};

/// Delay of the last entry of each log after the last event. It is longer than any clock was ever
/// ahead.
const ENDS_AFTER: Duration = Duration::from_secs(600);

/// One of the compared logs: its host, and its entries.
type Book = (Host, Vec<Entry>);

impl World {
    /// Adds an entry to a cloud agent's log on its disk.
    pub(super) fn book(&mut self, cloud: usize, event: Logged) {
        let entry = Entry::new(self.clock(Host::Cloud(cloud)), event);
        self.clouds[cloud].log.book.push(entry);
    }

    /// Logs the start of a cloud agent's process.
    pub(super) fn book_start(&mut self, cloud: usize) {
        let (build, name) = (Word::of("simulated"), Word::of(&called(Host::Cloud(cloud))));
        self.book(cloud, Logged::AgentStarted(Started { build, name }));
    }

    /// Logs the start of a data centre's process.
    pub(super) fn book_idc_start(&mut self, idc: usize) {
        let (build, name) = (Word::of("simulated"), Word::of(&called(Host::Idc(idc))));
        self.book_at_idc(idc, Logged::AgentStarted(Started { build, name }));
    }

    fn book_at_idc(&mut self, idc: usize, event: Logged) {
        let entry = Entry::new(self.clock(Host::Idc(idc)), event);
        self.idcs[idc].log.add(&entry);
    }

    /// Logs at both agents that a link is up.
    pub(super) fn book_link_up(&mut self, cloud: usize, idc: usize, link: LinkId) {
        let opened = |host| {
            let (certificate, group, suite) = (Digest::of(b"simulated"), Word::of("none"), Word::of("none"));
            let (peer, link, transport) = (peer(host), link.0, None);
            Logged::TunnelOpened(Opened { certificate, group, link, peer, suite, transport })
        };
        self.book(cloud, opened(Host::Idc(idc)));
        self.book_at_idc(idc, opened(Host::Cloud(cloud)));
    }

    /// Logs at a cloud agent that a link is down.
    pub(super) fn book_link_down(&mut self, cloud: usize, idc: usize, link: LinkId) {
        self.book(cloud, closed(Host::Idc(idc), link));
    }

    /// Logs at a data centre's agent that a link is down.
    pub(super) fn book_link_down_at_idc(&mut self, cloud: usize, idc: usize, link: LinkId) {
        self.book_at_idc(idc, closed(Host::Cloud(cloud), link));
    }

    /// Returns the entry for a write that is sent.
    pub(super) fn sent(&self, kind: &to_idc::Kind) -> Option<Logged> {
        let header = |brand: &str, order: &[u8], key: &[u8]| {
            let brand = self.shop.brands().iter().find(|known| known.as_str() == brand)?.clone();
            Some(Header { brand, order: OrderId::from_bytes(order).ok()?, key: KeyDigest::from_bytes(key)? })
        };
        let of = |payment: &[u8]| PaymentId::from_bytes(payment).ok();
        Some(match kind {
            to_idc::Kind::Place(sealed) => {
                let other = self.sabotage == Some(Sabotage::LogOtherBytes);
                let bytes = if other { &sealed.terms } else { &sealed.ciphertext };
                let header = header(&sealed.brand, &sealed.order, &sealed.key)?;
                Logged::OrderSent(Carried::new(&header, "place", Some(bytes)))
            }
            to_idc::Kind::Cancel(cancel) => {
                let header = header(&cancel.brand, &cancel.order, &cancel.key)?;
                Logged::OrderSent(Carried::new(&header, "cancel", None))
            }
            to_idc::Kind::Pay(pay) => {
                let header = header(&pay.brand, &pay.order, &pay.key)?;
                Logged::PaymentSent(Carried::new(&header, "pay", None).about(of(&pay.payment)?))
            }
            to_idc::Kind::Refund(refund) => {
                let header = header(&refund.brand, &refund.order, &refund.key)?;
                Logged::PaymentSent(Carried::new(&header, "refund", None).about(of(&refund.payment)?))
            }
            to_idc::Kind::Ask(_) | to_idc::Kind::AskPayment(_) => return None,
        })
    }

    /// Returns the entry for the answer to an attempt.
    pub(super) fn answered(&self, attempt: usize, told: &CallerReply) -> Option<Logged> {
        let made = &self.attempts[attempt];
        let brand = self.shop.brands().get(self.writes[made.write].brand)?.clone();
        let header = Header { brand, order: made.order, key: KeyDigest::from_bytes(&made.key?)? };
        Some(Logged::OrderAnswered(match told {
            CallerReply::Receipt { receipt, replayed } => Ended {
                order: OrderId::from_bytes(&receipt.order).ok()?,
                position: Some(receipt.position + i64::from(self.sabotage == Some(Sabotage::LogOtherEnds))),
                replayed: *replayed,
                ..Ended::new(&header, &receipt.outcome.code)
            },
            told => Ended::new(&header, plain(told)),
        }))
    }

    /// Returns the entry for the answer to a payer's attempt.
    pub(super) fn payer_answered(
        &self,
        attempt: usize,
        told: &CallerReply,
        stands: Option<&Payment>,
    ) -> Option<Logged> {
        let made = &self.payment_world.attempts[attempt];
        let write = &self.payment_world.writes[made.write];
        let brand = self.shop.brands().get(write.brand)?.clone();
        let header = Header { brand, order: write.order, key: KeyDigest::from_bytes(&made.key)? };
        let (outcome, id, replayed) = match stands {
            Some(stands) => {
                let refund = stands.refund.as_ref().map(|(_, state)| state.as_str());
                (refund.unwrap_or(&stands.state), &stands.payment, stands.replayed)
            }
            None => (plain(told), &made.id, false),
        };
        let payment = PaymentId::from_bytes(id).ok()?;
        Some(Logged::PaymentAnswered(Ended::new(&header, outcome).about(payment, replayed)))
    }

    /// P8: the logs of both sides contain no contradiction. Without one of the logs, the comparison
    /// also reports no contradiction, and says which log is missing.
    pub(super) fn check_both_logs(&mut self) {
        let books = match self.books() {
            Ok(books) => books,
            Err(what) => {
                return self.violate("P8", format!("a data centre's log cannot be read: {what}"));
            }
        };
        let told = compared(books.iter());
        self.counts.logs_compared += 1;
        self.counts.requests_agreed += told.agreed;
        note!(self, "{} logs agree on {}, {} are lost", books.len(), told.agreed, told.lost);
        if !told.not_given.is_empty() || !told.missing.is_empty() {
            self.violate("P8", format!("all logs are given, and {:?} are reported as missing", told.missing));
        }
        self.check_differences(told.differences.iter().chain(&told.in_doubt));
        self.check_without_one(&books);
    }

    /// Compares without one log, which is drawn. If that agent had links, the comparison must miss
    /// its log.
    fn check_without_one(&mut self, books: &[Book]) {
        let left_out = self.dice.index(books.len());
        let (host, _) = &books[left_out];
        let of_a_side = |(other, _): &&Book| is_cloud(*other) == is_cloud(*host);
        if books.iter().filter(of_a_side).count() == 1 {
            return;
        }
        let (one, linked) = (peer(*host), books.iter().any(|(_, entries)| names(entries, *host)));
        let told = compared(books.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, book)| book));
        self.counts.logs_left_out += 1;
        note!(self, "without the log of {host:?}, {} requests cannot be decided", told.not_given.len());
        if linked != told.missing.contains(&one) || told.missing.len() > 1 {
            self.violate(
                "P8",
                format!("the log of {host:?} is not given, and {:?} are missed", told.missing),
            );
        }
        let stranger = told.not_given.iter().any(|not| not.agents.iter().any(|agent| *agent != one));
        if stranger {
            self.violate("P8", format!("without the log of {host:?} another one would tell"));
        }
        // If a clock was set far back, the times of links are not known. If a restore gave an order
        // two outcomes, the missing log may be the one that has the other outcome.
        if !self.clocks_jumped && self.taken.is_empty() {
            self.check_differences(told.differences.iter());
        }
    }

    fn check_differences<'a>(&mut self, mut all: impl Iterator<Item = &'a Difference>) {
        // A single frame that is lost or late on a lane that continues is not the end of a link.
        // Real lanes lose no frame and keep their order.
        let spoilt = |difference: &Difference| self.spoilt.contains(difference.key.as_bytes());
        let differs = |difference: &&Difference| {
            difference.what != DifferenceKind::NeverReceived || !spoilt(difference)
        };
        if let Some(difference) = all.find(differs) {
            let (what, order, key) = (&difference.what, difference.order, difference.key.to_hex());
            let (here, there) = (difference.cloud_entry, difference.idc_entry);
            self.violate(
                "P8",
                format!("the logs differ about {order}, {what}: {key}, {here:?} and {there:?}"),
            );
        }
    }

    /// Returns the logs of all agents. Each ends with an orderly stop long after the last event, so
    /// that no log ends too early to decide.
    fn books(&self) -> Result<Vec<Book>, String> {
        let mut books = Vec::new();
        for (number, cloud) in self.clouds.iter().enumerate() {
            books.push((Host::Cloud(number), cloud.log.book.clone()));
        }
        for (number, idc) in self.idcs.iter().enumerate() {
            books.push((Host::Idc(number), idc.log.entries()?));
        }
        for (host, entries) in &mut books {
            let stopped = Logged::AgentStopped(Stopped { reason: Word::of("order") });
            entries.push(Entry::new(self.clock(*host).plus(ENDS_AFTER), stopped));
        }
        Ok(books)
    }
}

/// Returns the command's result for these logs.
fn compared<'a>(books: impl Iterator<Item = &'a Book>) -> Reconciled {
    let mut reconciler = Reconciler::new();
    for (host, entries) in books {
        let side = if is_cloud(*host) { Side::Cloud } else { Side::Idc };
        let log = reconciler.log(side, &format!("shop.example/{}/{}", side.code(), called(*host)));
        entries.iter().for_each(|entry| reconciler.take(log, entry));
    }
    reconciler.finish()
}

fn is_cloud(host: Host) -> bool {
    matches!(host, Host::Cloud(_))
}

/// Returns the name of an agent.
fn called(host: Host) -> String {
    match host {
        Host::Cloud(number) => format!("front-{number}"),
        Host::Idc(number) => format!("seoul-{number}"),
    }
}

/// Returns the agent's identity as its peers log it for links.
fn peer(host: Host) -> Word {
    let side = if is_cloud(host) { Side::Cloud } else { Side::Idc };
    Word::of(&format!("spiffe://shop.example/{}/{}", side.code(), called(host)))
}

/// Returns true if a log names an agent.
fn names(entries: &[Entry], host: Host) -> bool {
    let one = peer(host);
    entries.iter().any(|entry| matches!(&entry.event, Logged::TunnelOpened(opened) if opened.peer == one))
}

fn closed(host: Host, link: LinkId) -> Logged {
    Logged::TunnelClosed(Closed { link: link.0, peer: peer(host), reason: Word::of("lost") })
}

/// Returns the outcome that is logged for an answer without a receipt.
fn plain(told: &CallerReply) -> &'static str {
    match told {
        CallerReply::Nothing(NoEffect::Refused(refusal)) => refusal.code(),
        CallerReply::Nothing(NoEffect::NotSent) => "not-sent",
        CallerReply::Nothing(NoEffect::QueueFull) => "full",
        CallerReply::InProgress => "in-progress",
        CallerReply::KeyTaken => "key-in-use",
        CallerReply::KeyReused => "key-reused",
        CallerReply::NotFound => "not-found",
        _ => "unknown",
    }
}

/// Returns the entries of a journal segment, round by round.
pub(super) fn entries_of(segment: &[u8]) -> Result<Vec<Entry>, String> {
    let (_, mut reader) = Reader::open(segment).map_err(|error| error.to_string())?;
    let mut entries = Vec::new();
    while let Some(round) = reader.next_round().map_err(|error| error.to_string())? {
        for line in round.entries {
            entries.push(Entry::parse(line).map_err(|error| error.to_string())?);
        }
    }
    Ok(entries)
}
