//! Both ends' logs side by side, as an auditor compares them at the end: each as it lies on its disk, whatever crashed meanwhile.

use bridge_protocol::audit::entry::{Carried, Closed, Ended, Started, Stopped, Word};
use bridge_protocol::audit::journal::Reader;
use bridge_protocol::audit::reconcile::{Difference, Reconciler, What};
use bridge_protocol::audit::{Entry, Event as Logged};
use bridge_protocol::domain::{KeyDigest, OrderId, PaymentId};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::wire::order::to_idc;

use super::super::options::Sabotage;
use super::super::reference::answer::Payment;
use super::clocks::Host;
use super::told::{Nothing, Told};
use super::{World, note};

/// The peer, as entries of links name it.
const PEER: &str = "spiffe://shop.example/idc/simulated";

impl World {
    /// Adds to a cloud agent's log, as it lies on its disk.
    pub(super) fn book(&mut self, cloud: usize, event: Logged) {
        let entry = Entry::new(self.clock(Host::Cloud(cloud)), event);
        self.clouds[cloud].log.book.push(entry);
    }

    /// A process of a cloud agent starts.
    pub(super) fn book_start(&mut self, cloud: usize) {
        let (build, name) = (Word::of("simulated"), Word::of("cloud"));
        self.book(cloud, Logged::AgentStarted(Started { build, name }));
    }

    /// A cloud agent learns that a link is down.
    pub(super) fn book_link_down(&mut self, cloud: usize, link: LinkId) {
        let (peer, reason) = (Word::of(PEER), Word::of("lost"));
        self.book(cloud, Logged::TunnelClosed(Closed { link: link.0, peer, reason }));
    }

    /// What a write is sent with.
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

    /// What the caller of an attempt is told.
    pub(super) fn answered(&self, attempt: usize, told: &Told) -> Option<Logged> {
        let made = &self.attempts[attempt];
        let brand = self.shop.brands().get(self.writes[made.write].brand)?.clone();
        let header = Header { brand, order: made.order, key: KeyDigest::from_bytes(&made.key?)? };
        Some(Logged::OrderAnswered(match told {
            Told::Receipt { receipt, replayed } => Ended {
                order: OrderId::from_bytes(&receipt.order).ok()?,
                position: Some(receipt.position),
                replayed: *replayed,
                ..Ended::new(&header, &receipt.outcome.code)
            },
            told => Ended::new(&header, plain(told)),
        }))
    }

    /// What the payer of an attempt is told.
    pub(super) fn payer_answered(
        &self,
        attempt: usize,
        told: &Told,
        stands: Option<&Payment>,
    ) -> Option<Logged> {
        let made = &self.money.attempts[attempt];
        let write = &self.money.writes[made.write];
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

    /// P8: an auditor finds nothing that the two logs tell differently. Only a pair's logs are compared, as the command does.
    pub(super) fn judge_both_logs(&mut self) {
        let ([cloud], [idc]) = (&self.clouds[..], &self.idcs[..]) else { return };
        let mut reconciler = Reconciler::new();
        match idc.log.entries() {
            Ok(entries) => entries.iter().for_each(|entry| reconciler.idc(entry)),
            Err(what) => {
                return self.violate("P8", format!("the data centre's log is not to be read: {what}"));
            }
        }
        // Both agents have ended in order, long after: neither log ends too early to tell.
        let end = Entry::new(
            self.clock(Host::Cloud(0)),
            Logged::AgentStopped(Stopped { reason: Word::of("order") }),
        );
        reconciler.idc(&end);
        cloud.log.book.iter().chain([&end]).for_each(|entry| reconciler.cloud(entry));
        let told = reconciler.finish();
        self.counts.logs_compared += 1;
        self.counts.requests_agreed += told.agreed;
        note!(self, "both logs agree on {}, {} are lost", told.agreed, told.lost);
        // A single frame that is lost on a lane that goes on is no link's end: real lanes lose none.
        let loses = self.loses_frames;
        let differs = |difference: &&Difference| difference.what != What::NeverReceived || !loses;
        let mut all = told.differences.iter().chain(&told.in_doubt);
        if let Some(difference) = all.find(differs) {
            let (what, order, key) = (&difference.what, difference.order, difference.key.to_hex());
            let (here, there) = (difference.cloud_entry, difference.idc_entry);
            self.violate(
                "P8",
                format!("the logs differ about {order}, {what}: {key}, {here:?} and {there:?}"),
            );
        }
    }
}

/// What an answer without a receipt is logged as.
fn plain(told: &Told) -> &'static str {
    match told {
        Told::Nothing(Nothing::Refused(refusal)) => refusal.code(),
        Told::Nothing(Nothing::NotSent) => "not-sent",
        Told::Nothing(Nothing::QueueFull) => "full",
        Told::InProgress => "in-progress",
        Told::KeyTaken => "key-in-use",
        Told::KeyReused => "key-reused",
        Told::NotFound => "not-found",
        _ => "unknown",
    }
}

/// Entries as they lie on a disk, round by round.
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
