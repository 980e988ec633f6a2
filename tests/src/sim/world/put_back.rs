//! Comparison of a restored database with the logs, as a DBA does it before an agent starts.
//!
//! A restore does not undo what the gateway did. All money that moved, or that a request under way
//! may move, must therefore be known to the restored ledger, so that the agents ask the gateway, or
//! be named by the comparison. This file restores nothing: it compares a second database that is as
//! a restore would leave it.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use bridge_idc::compare::{Counts, Finding, Part, Reach, Span, StandingPayment, StandingRefund};
use bridge_idc::orders::store::by_key::{AskedFor, Keys, OutcomeOfKey, PaymentOfKey};
use bridge_idc::orders::store::model::{
    ModelDatabase, OutcomeColumns, PaymentColumns, RefundColumns, RequestColumns,
};
use bridge_protocol::audit::{Entry, Event as Logged};
use bridge_protocol::domain::{Brand, KeyDigest, OrderId, PaymentId, RefundId, UnixMicros};

use super::super::options::Sabotage;
use super::super::reference::Order;
use super::super::reference::bank::Id;
use super::data_centre::DataCentre;
use super::gateway::GatewayCall;
use super::{Event, World, note};

/// Number of comparisons in a schedule, before the faults end.
const LOOKS: usize = 3;

const ALL_KEYS: Keys = Keys { from: [0; 32], to: [0xff; 32] };

/// Findings about money: the order, the subject, and the kind of difference.
type NamedMoney = BTreeSet<(Order, &'static str, &'static str)>;

/// Subject of an operator's decision.
struct Spoken {
    order: Order,
    payment: PaymentId,
    refund: Option<RefundId>,
}

impl World {
    /// Schedules the comparisons.
    pub(super) fn plan_put_backs(&mut self) {
        if self.fault_rates.pays == 0 {
            return;
        }
        self.ledger.archive();
        for _ in 0..LOOKS {
            let until = u64::try_from(self.faults_until.as_micros()).unwrap_or(0);
            let at = self.dice.micros(0..=until);
            self.at(at, Event::PutBack);
        }
    }

    /// P8 and P2 for a restored ledger: the comparison names all money that moved and that the
    /// ledger lacks.
    pub(super) fn check_put_back(&mut self) {
        let back = match self.dice.index(2) {
            0 => self.dice.millis(0..=300),
            _ => self.dice.micros(0..=u64::try_from(self.now.as_micros()).unwrap_or(0)),
        };
        let to = self.now.saturating_sub(back);
        let ledger = self.ledger.restored_beside(to);
        let (named, counts) = match self.compared_with(&ledger) {
            Ok(compared) => compared,
            Err(what) => return self.violate("P8", format!("a log cannot be read: {what}")),
        };
        note!(self, "after a restore to {to:?}, {} findings name what the ledger would lack", named.len());
        self.counts.put_backs += 1;
        self.counts.unaccounted += counts.in_doubt;
        if let Some(what) = self.not_named(&ledger, &named) {
            self.violate("P2", format!("after a restore to {to:?}, {what}, and no finding names it"));
        }
    }

    /// Settles by hand what the comparison names, after a restore and before an agent starts. The
    /// DBA does it with the gateway's staff and the shop. All other money must be as promised from
    /// then on.
    pub(super) fn settle_by_hand(&mut self, to: Duration) {
        if self.payment_world.writes.is_empty() {
            return;
        }
        let (named, _) = match self.compared_with(&self.ledger) {
            Ok(compared) => compared,
            Err(what) => return self.violate("P8", format!("a log cannot be read: {what}")),
        };
        if let Some(what) = self.not_named(&self.ledger, &named) {
            self.violate("P2", format!("after the restore to {to:?}, {what}, and no finding names it"));
        }
        // The agents ask the gateway about open payments by themselves, even if an operator had
        // resolved them before.
        let by_hand = named.iter().filter(|(_, about, what)| *what != "open" && *about != "resolution");
        self.payment_world.settled.extend(by_hand.map(|(order, ..)| *order));
        self.payment_world.named.extend(named.iter().map(|(order, ..)| *order));
        self.counts.settled_by_hand += self.payment_world.settled.len() as u64;
        // The gateway's answer about a charge that is refunded in part proves nothing. An operator
        // must resolve it.
        self.payment_world.operator = true;
    }

    /// P8: the logs do not contradict the ledger as it is.
    pub(super) fn check_compared(&mut self) {
        match self.compared_with(&self.ledger) {
            Ok((_, counts)) if counts.differ() == 0 => {}
            Ok((named, counts)) => {
                let named = Vec::from_iter(named.iter().filter_map(|(order, about, what)| {
                    Some(format!("{about} of {}: {what}", OrderId::from_bytes(order).ok()?))
                }));
                self.violate("P8", format!("the ledger and the logs differ: {counts:?}, {named:?}"));
            }
            Err(what) => self.violate("P8", format!("a log cannot be read: {what}")),
        }
    }

    /// Returns money that the ledger lacks and that no finding names.
    fn not_named(&self, ledger: &ModelDatabase, named: &NamedMoney) -> Option<String> {
        let (payments, refunds) = (ledger.payments(), ledger.refunds());
        // Money that was settled by hand after an earlier restore is known to the people who
        // settled it.
        let is_named = |order: Order, abouts: &[&'static str]| {
            self.payment_world.settled.contains(&order)
                || named.iter().any(|(known, about, _)| *known == order && abouts.contains(about))
        };
        let row_of = |token: &str| payments.iter().find(|row| row.payment_key == token && is_known(row));
        let lost =
            |(token, order): &(String, Order)| row_of(token).is_none() && !is_named(*order, &["payment"]);
        if let Some((token, order)) = self.may_be_charged().into_iter().find(lost) {
            return Some(format!("{token} of {:?} may be charged", OrderId::from_bytes(&order)));
        }
        let lost = |(token, order, id): &(&str, Order, Id)| {
            let row = refunds.iter().find(|row| row.refund.as_bytes() == id);
            if row.is_some_and(|row| row.state != "refused") {
                return false;
            }
            if self.payment_world.made_for.contains_key(id) {
                return !is_named(*order, &["refund"]);
            }
            // A doubtful payment is refunded under the same key once the charge is known, or once
            // its order is cancelled.
            let is_doubtful = row_of(token).is_some_and(|row| !is_charged(row));
            !is_doubtful && !is_named(*order, &["payment", "cancellation"])
        };
        if let Some((token, order, _)) = self.payment_world.bank.given_back().find(lost) {
            return Some(format!("a part of {token} of {:?} is back", OrderId::from_bytes(&order)));
        }
        // The agents ask the gateway until the operator's decision is repeated.
        let is_missing = |word: &Spoken| is_missing(ledger, word) && !is_named(word.order, &["resolution"]);
        let words = self.spoken().unwrap_or_default();
        let word = words.into_iter().find(is_missing)?;
        Some(format!("an operator's decision about {:?} is missing", OrderId::from_bytes(&word.order)))
    }

    /// Returns the token and order of all charges, and of all requests under way that may charge.
    fn may_be_charged(&self) -> Vec<(String, Order)> {
        let charged = self.payment_world.bank.charges().map(|(token, _, order, _)| (token.to_owned(), order));
        let asked = |what: &GatewayCall| match what {
            GatewayCall::Charge(charge) => {
                Some((charge.payment_key.as_str().to_owned(), *charge.order.as_bytes()))
            }
            _ => None,
        };
        let coming = self.events.values().filter_map(|event| match event {
            Event::Gateway { what, .. } => asked(what),
            _ => None,
        });
        let held_up = self.payment_world.held_up.iter().filter_map(|(_, what)| asked(what));
        charged.chain(coming).chain(held_up).collect()
    }

    /// Returns the findings and counts of `audit compare` for a ledger and the logs of all data
    /// centres on their disks.
    fn compared_with(&self, ledger: &ModelDatabase) -> Result<(NamedMoney, Counts), String> {
        let logs = self.idc_logs()?;
        let reaches = logs.iter().map(|log| {
            let mut reach = Reach::default();
            log.iter().for_each(|entry| reach.take(entry));
            ("", Reach { is_ended: true, ..reach }, false)
        });
        let span = Span::of(reaches);
        let mut part = Part::new(ALL_KEYS, &span);
        for log in &logs {
            part.begin_log();
            if !log.iter().all(|entry| part.take(entry)) {
                return Err("an entry is in no form that is known".to_owned());
            }
        }
        let (mut named, mut counts) = (NamedMoney::new(), Counts::default());
        let mut told = |finding: Finding| {
            named.insert((*finding.order.as_bytes(), finding.about.code(), finding.what.code()));
        };
        for row in ledger.outcomes() {
            let stands = ledger.state_of(&row.order);
            outcome(&row, stands).into_iter().for_each(|row| part.outcome(row, &mut counts, &mut told));
        }
        for (key, request) in ledger.requests() {
            let row = payment(ledger, &key, &request);
            row.into_iter().for_each(|row| part.payment(row, &mut counts, &mut told));
        }
        for word in part.take_words() {
            let stands = standing(ledger, word.payment);
            part.word(word, stands.as_ref(), &mut counts, &mut told);
        }
        part.finish(&mut counts, &mut told);
        Ok((named, counts))
    }

    /// Returns the subjects of all operators' decisions.
    fn spoken(&self) -> Result<Vec<Spoken>, String> {
        let mut words = Vec::new();
        for idc in &self.idcs {
            words.extend(idc.log.whole_entries()?.into_iter().filter_map(|entry| match entry.event {
                Logged::PaymentResolved(said) => {
                    let payment = said.payment.as_str().parse().ok()?;
                    let refund = said.refund.and_then(|refund| refund.as_str().parse().ok());
                    Some(Spoken { order: *said.order.as_bytes(), payment, refund })
                }
                _ => None,
            }));
        }
        Ok(words)
    }

    /// Returns the entries of all data centres' logs, as the command gets them.
    fn idc_logs(&self) -> Result<Vec<Vec<Vec<u8>>>, String> {
        let entries = |idc: &DataCentre| -> Result<Vec<Vec<u8>>, String> {
            let mut entries = idc.log.whole_entries()?;
            match self.sabotage {
                Some(Sabotage::CompareEndsAlone) => {
                    entries.retain(|entry| !matches!(entry.event, Logged::PaymentReceived(_)));
                }
                Some(Sabotage::CompareNoWords) => {
                    entries.retain(|entry| !matches!(entry.event, Logged::PaymentResolved(_)));
                }
                _ => {}
            }
            let encoded: Result<_, _> = entries.iter().map(Entry::encode).collect();
            encoded.map_err(|error| error.to_string())
        };
        self.idcs.iter().map(entries).collect()
    }
}

/// Returns true if an agent will ask the gateway about the payment, or knows its outcome. The
/// gateway never charges a token that it declined.
fn is_known(row: &PaymentColumns) -> bool {
    let is_asked_about = matches!(row.state.as_str(), "confirming" | "unknown") || row.look_at.is_some();
    is_charged(row) || is_asked_about || row.state == "declined"
}

fn is_charged(row: &PaymentColumns) -> bool {
    matches!(row.state.as_str(), "paid" | "partially_refunded" | "refunded" | "charged_late" | "returned")
}

/// Returns true if the ledger lacks a payment or refund that an operator resolved, or has it in
/// doubt.
fn is_missing(ledger: &ModelDatabase, word: &Spoken) -> bool {
    let Some(payment) = standing(ledger, word.payment) else { return true };
    let state = match word.refund {
        None => Some(&payment.state),
        Some(id) => payment.refunds.iter().find(|known| known.refund == id).map(|known| &known.state),
    };
    state.is_none_or(|state| matches!(state.as_str(), "confirming" | "unknown"))
}

/// Returns a payment as the command reads it for an operator's decision.
fn standing(ledger: &ModelDatabase, payment: PaymentId) -> Option<StandingPayment> {
    let row = ledger.payment_row(&payment.as_uuid())?;
    let refunds = ledger.refunds().into_iter().filter(|refund| refund.payment == payment.as_uuid());
    let standing = |row: Rc<RefundColumns>| {
        let RefundColumns { refund, automatic, ref state, ref code, .. } = *row;
        let refund = RefundId::from_uuid(refund).ok()?;
        Some(StandingRefund { refund, automatic, state: state.clone(), code: code.clone() })
    };
    Some(StandingPayment { state: row.state.clone(), refunds: refunds.filter_map(standing).collect() })
}

/// Returns a row as the command reads it.
fn outcome(row: &OutcomeColumns, stands: Option<&'static str>) -> Option<OutcomeOfKey> {
    Some(OutcomeOfKey {
        key: KeyDigest::from_bytes(&row.key)?,
        brand: Brand::new(&row.brand).ok()?,
        order: OrderId::from_uuid(row.order).ok()?,
        outcome: row.outcome.clone(),
        position: row.position,
        committed_at: UnixMicros::new(row.committed_at),
        stands: stands.map(str::to_owned),
    })
}

fn payment(ledger: &ModelDatabase, key: &[u8], request: &RequestColumns) -> Option<PaymentOfKey> {
    let payment = ledger.payment_row(&request.payment);
    let refund =
        request.refund.and_then(|id| ledger.refunds().into_iter().find(|refund| refund.refund == id));
    let asked = payment.and_then(|payment| {
        let (state, at) = match &refund {
            Some(refund) => (&refund.state, refund.concluded_at.unwrap_or(refund.created_at)),
            None => (&payment.state, payment.concluded_at.unwrap_or(payment.created_at)),
        };
        let epoch = Duration::from_micros(u64::try_from(super::EPOCH_MICROS).unwrap_or(0));
        Some(AskedFor {
            brand: Brand::new(&payment.brand).ok()?,
            order: OrderId::from_uuid(payment.order).ok()?,
            state: state.clone(),
            // The model's clock counts from the first moment of the schedule.
            at: UnixMicros::new(at).plus(epoch),
        })
    });
    Some(PaymentOfKey { key: KeyDigest::from_bytes(key)?, is_refund: request.refund.is_some(), asked })
}
