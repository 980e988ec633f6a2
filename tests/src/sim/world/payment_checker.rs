//! The checker of payments: it compares the gateway's books, the ledger, the logs and the answers
//! that callers got.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::reference::answer::Payment;
use super::super::reference::bank::{BankReply, Id};
use super::super::reference::{Key, Order};
use super::World;
use super::payers::{PayAttempt, PayEnd, PayIntent, PayRequest, PayWrite};
use bridge_idc::orders::store::model::{PaymentColumns, RefundColumns};
use bridge_idc::payments::{Charge, GiveBack};
use bridge_protocol::domain::{OrderId, PaymentId};
use bridge_protocol::wire::order::{Refusal, ToCloud, to_cloud};

/// Most requests under one key after the gateway has refused it for certain. More than one is
/// right, because the answer may be lost.
const ASKED_AFTER_REFUSAL_MAX: u32 = 12;

/// Returns true if money moved for the payment.
fn is_charged(row: &PaymentColumns) -> bool {
    matches!(row.state.as_str(), "paid" | "partially_refunded" | "refunded") || is_late(row)
}

fn is_late(row: &PaymentColumns) -> bool {
    matches!(row.state.as_str(), "charged_late" | "returned")
}

/// Returns true if the shop was told that no money moved.
fn was_denied(row: &PaymentColumns) -> bool {
    matches!(row.state.as_str(), "declined" | "not_paid") || is_late(row)
}

impl World {
    fn attempt_of(&self, id: &Id) -> Option<(&PayAttempt, &PayWrite)> {
        let attempt = &self.payment_world.attempts[*self.payment_world.made_for.get(id)?];
        Some((attempt, &self.payment_world.writes[attempt.write]))
    }

    pub(super) fn key_of(&self, id: &Id) -> Option<Key> {
        self.attempt_of(id).map(|(attempt, _)| attempt.key)
    }

    fn is_logged(&self, key: Option<Key>, what: &str) -> bool {
        key.is_some_and(|key| self.payment_world.logged.contains(&(key, what.to_owned())))
    }

    /// Returns the ledger's payments with this token.
    fn known_by(&self, token: &str) -> Vec<Rc<PaymentColumns>> {
        self.ledger.payments().into_iter().filter(|row| row.payment_key == token).collect()
    }

    /// P2 and P8 before a charge: the payment must be durable in the ledger and in a log.
    pub(super) fn check_asked_to_charge(&mut self, charge: &Charge) {
        if self.payment_world.settled.contains(charge.order.as_bytes()) {
            return;
        }
        let id = charge.payment.as_bytes();
        if self.ledger.payment_row(&charge.payment.as_uuid()).is_none() {
            self.violate("P2", format!("the gateway is to charge {}, which is not durable", charge.payment));
        }
        if !self.is_logged(self.key_of(id), "received") {
            self.violate("P8", format!("the gateway is to charge {}, which no log has", charge.payment));
        }
        let asked = self.attempt_of(id).is_some_and(|(attempt, write)| {
            let same = attempt.request == PayRequest::Pay { token: charge.payment_key.as_str().to_owned() };
            same && write.order == charge.order && write.brand == write.brand_of_order
        });
        let agreed = self.payment_world.bank.agreed(charge.payment_key.as_str());
        if !asked || agreed != Some((*charge.order.as_bytes(), charge.amount.amount())) {
            self.violate("TENANCY", format!("{charge:?} is to be charged, and {agreed:?} was agreed to"));
        }
    }

    /// P2 and P4 at a charge: an order is charged once, and never if its caller was told that
    /// nothing happens.
    pub(super) fn check_charged(&mut self, charge: &Charge) {
        let order = charge.order.as_bytes();
        if self.payment_world.settled.contains(order) {
            return;
        }
        let own = was_any_denied(&self.known_by(charge.payment_key.as_str()));
        let others = self.payment_world.bank.charges_of(order).into_iter();
        let others = others.filter(|(token, ..)| *token != charge.payment_key.as_str());
        let twice = others.filter(|(token, ..)| !own && !was_any_denied(&self.known_by(token))).count();
        if twice > 0 {
            self.violate("P2", format!("order {} is charged twice", charge.order));
        }
        if self.payment_world.denied.contains(charge.payment.as_bytes()) {
            self.violate(
                "P4",
                format!("{} is charged, and its caller was told that nothing happened", charge.payment),
            );
        }
        let row = self.ledger.payment_row(&charge.payment.as_uuid());
        if row.is_some_and(|row| row.state == "declined") {
            self.violate("P4", format!("{} is charged, and is called declined", charge.payment));
        }
    }

    /// P2 at a refund: never more than was paid, and only if the shop asked for it or the payment
    /// has no valid order.
    pub(super) fn check_given_back(&mut self, refund: &GiveBack) {
        let (id, token) = (refund.refund.as_bytes(), refund.charge.payment_key.as_str());
        let (amount, charged) = (refund.amount.amount(), refund.charge.amount.amount());
        if self.payment_world.settled.contains(refund.charge.order.as_bytes()) {
            return;
        }
        if self.payment_world.bank.back(token) > charged {
            self.violate("P2", format!("more is refunded of {} than was paid", refund.charge.payment));
        }
        if self.payment_world.bank.asked_after_refusal(id) > ASKED_AFTER_REFUSAL_MAX {
            self.violate(
                "P2",
                format!("refund {} is asked for again and again, and was refused", refund.refund),
            );
        }
        if refund.amount.currency() != refund.charge.amount.currency() {
            self.violate("TENANCY", format!("refund {} is in another currency", refund.refund));
        }
        let asked_for = self.attempt_of(id).map(|(_, write)| {
            let PayWrite { brand, brand_of_order, intent, .. } = write;
            let same = matches!(intent, PayIntent::Refund { amount: asked, .. } if *asked == amount);
            same && brand == brand_of_order
        });
        match asked_for {
            Some(true) => {}
            Some(false) => {
                self.violate(
                    "TENANCY",
                    format!("refund {} is another brand's, or another amount", refund.refund),
                );
            }
            None => self.check_automatic(refund),
        }
        if self.payment_world.denied.contains(id) {
            self.violate(
                "P4",
                format!("refund {} is asked for, and its caller was told that it is not", refund.refund),
            );
        }
    }

    /// P2 at an automatic refund: the order must be cancelled or the charge late. A payment has at
    /// most one automatic refund, and one more for each refund that was refused.
    fn check_automatic(&mut self, refund: &GiveBack) {
        let charge = &refund.charge;
        let late = self.ledger.payment_row(&charge.payment.as_uuid()).is_some_and(|row| is_late(&row));
        let cancelled = self.ledger.state_of(&charge.order.as_uuid()) == Some("cancelled");
        if !late && !cancelled {
            self.violate("P2", format!("{} is refunded, and nobody asked for a refund", charge.payment));
        }
        let asked_back = self.payment_world.bank.asked_back(charge.payment_key.as_str());
        let (asked_for, automatic): (Vec<&Id>, Vec<&Id>) =
            asked_back.partition(|id| self.payment_world.made_for.contains_key(*id));
        // A refund that never reached the gateway may have been resolved as refused by an operator.
        let said_refused = self.payment_world.said_refused.iter().filter(|id| {
            let intent = self.attempt_of(id).map(|(_, write)| &write.intent);
            let of_this =
                matches!(intent, Some(PayIntent::Refund { payment, .. }) if *payment == charge.payment);
            of_this && !asked_for.contains(id)
        });
        if automatic.len() > asked_for.len() + said_refused.count() + 1 {
            self.violate("P2", format!("{} is refunded automatically again and again", charge.payment));
        }
    }

    /// Checks a payment's row when it becomes durable.
    pub(super) fn check_payment(&mut self, row: &PaymentColumns) {
        let (id, name) = (*row.payment.as_bytes(), row.payment);
        if self.payment_world.settled.contains(row.order.as_bytes()) {
            return;
        }
        let brand = self.attempt_of(&id).and_then(|(attempt, write)| {
            let same = attempt.request == PayRequest::Pay { token: row.payment_key.clone() };
            let fits = same && *write.order.as_bytes() == *row.order.as_bytes();
            self.shop.brands().get(write.brand).filter(|_| fits && write.brand == write.brand_of_order)
        });
        if brand.is_none_or(|brand| brand.as_str() != row.brand) {
            self.violate("TENANCY", format!("payment {name} is not as anybody asked: {row:?}"));
        }
        if self.payment_world.denied.contains(&id) {
            self.violate(
                "P4",
                format!("payment {name} is durable, and its caller was told that nothing happened"),
            );
        }
        let pays = |other: &Rc<PaymentColumns>| {
            let given_up = matches!(other.state.as_str(), "declined" | "not_paid");
            other.order == row.order && !given_up && !is_late(other)
        };
        if self.ledger.payments().iter().filter(|other| pays(other)).count() > 1 {
            self.violate("P2", format!("two payments pay for order {}", row.order));
        }
        let charged = self.payment_world.bank.is_charged(&row.payment_key);
        if row.refunded > self.payment_world.bank.back(&row.payment_key) {
            self.violate(
                "P2",
                format!("{} of payment {name} counts as back, which is more than is", row.refunded),
            );
        }
        self.counts.charged_late += u64::from(row.state == "charged_late" && row.refunded == 0);
        match row.state.as_str() {
            "declined" if charged => {
                self.violate("P4", format!("payment {name} is called declined, and is charged"))
            }
            "paid" | "charged_late" if !charged => {
                self.violate("P1", format!("payment {name} is called {}, and no money moved", row.state));
            }
            "paid" | "charged_late" | "declined" | "not_paid"
                if !self.is_logged(self.key_of(&id), &row.state) =>
            {
                self.violate("P8", format!("payment {name} is {}, and no log has it", row.state));
            }
            _ => {}
        }
    }

    /// Checks a refund's row when it becomes durable.
    pub(super) fn check_refund(&mut self, row: &RefundColumns) {
        let (id, name) = (*row.refund.as_bytes(), row.refund);
        let payment = self.ledger.payment_row(&row.payment);
        if payment.is_some_and(|payment| self.payment_world.settled.contains(payment.order.as_bytes())) {
            return;
        }
        if row.automatic == self.payment_world.made_for.contains_key(&id) {
            self.violate("P2", format!("refund {name} is automatic: {}, and was asked for", row.automatic));
        }
        if self.payment_world.denied.contains(&id) {
            self.violate(
                "P4",
                format!("refund {name} is durable, and its caller was told that nothing happened"),
            );
        }
        let done = self.payment_world.bank.answered(&id) == Some(BankReply::Done);
        match (row.state.as_str(), row.automatic) {
            ("done", true) => self.counts.refunds_automatic += 1,
            ("done", false) => self.counts.refunds += 1,
            _ => {}
        }
        match row.state.as_str() {
            "done" if !done => self.violate("P1", format!("refund {name} is done, and no money went back")),
            "refused" if done => {
                self.violate("P4", format!("refund {name} is refused, and its money went back"))
            }
            "done" | "refused" if !self.is_refund_logged(row) => {
                self.violate("P8", format!("refund {name} is {}, and no log has it", row.state));
            }
            _ => {}
        }
    }

    /// Returns true if a refund's state is logged. The state of an automatic refund is logged as
    /// that of its payment.
    fn is_refund_logged(&self, row: &RefundColumns) -> bool {
        let of_payment = |what| self.is_logged(self.key_of(row.payment.as_bytes()), what);
        match (row.automatic, row.state.as_str()) {
            (false, state) => self.is_logged(self.key_of(row.refund.as_bytes()), state),
            (true, "refused") => of_payment("refused"),
            (true, _) => {
                ["partially_refunded", "refunded", "charged_late", "returned"].into_iter().any(of_payment)
            }
        }
    }

    /// P8 before an answer: a payment's outcome must be in a log.
    pub(super) fn check_payment_answer(&mut self, message: &ToCloud) {
        let Some(to_cloud::Kind::Payment(stands)) = &message.kind else { return };
        let Ok(id) = Id::try_from(&stands.payment[..]) else { return };
        let state = stands.state_code();
        if matches!(state, "paid" | "declined" | "not_paid" | "charged_late")
            && !self.is_logged(self.key_of(&id), state)
        {
            self.violate("P8", format!("a payment is reported as {state} before a log has it"));
        }
    }

    /// Checks that the state in a payer's answer is true.
    pub(super) fn check_payment_told(&mut self, attempt: usize, stands: &Payment) {
        let PayAttempt { write, .. } = self.payment_world.attempts[attempt];
        let PayWrite { brand, brand_of_order, order, .. } = &self.payment_world.writes[write];
        // The answer may be from before a restore.
        if self.payment_world.named.contains(order.as_bytes()) {
            return;
        }
        if brand != brand_of_order || stands.order != *order.as_bytes() {
            self.violate(
                "TENANCY",
                format!("payer {write} is told of a payment that is not its own: {stands:?}"),
            );
            return;
        }
        let row = PaymentId::from_bytes(&stands.payment).ok();
        let Some(row) = row.and_then(|id| self.ledger.payment_row(&id.as_uuid())) else {
            return self.violate(
                "P1",
                format!("payer {write} is told of a payment that does not exist: {stands:?}"),
            );
        };
        let charged = self.payment_world.bank.is_charged(&row.payment_key);
        let told_paid = matches!(stands.state.as_str(), "paid" | "partially_refunded" | "refunded");
        if told_paid && (!is_charged(&row) || is_late(&row) || !charged) {
            self.violate(
                "P1",
                format!("payer {write} is told {}, and the ledger has {}", stands.state, row.state),
            );
        }
        if matches!(stands.state.as_str(), "declined" | "not_paid") && !was_denied(&row) {
            self.violate(
                "P4",
                format!("payer {write} is told {}, and the ledger has {}", stands.state, row.state),
            );
        }
        if stands.amount != row.amount || stands.currency != row.currency || stands.refunded > row.refunded {
            self.violate("P1", format!("payer {write} is told {stands:?}, and the ledger has {row:?}"));
        }
    }

    /// Checks an answer which says that nothing happened.
    pub(super) fn check_payment_denied(&mut self, attempt: usize, refusal: Option<Refusal>) {
        let PayAttempt { write: id, id: made, key, existed, .. } =
            self.payment_world.attempts[attempt].clone();
        if self.payment_world.named.contains(self.payment_world.writes[id].order.as_bytes()) {
            return;
        }
        self.payment_world.denied.insert(made);
        let is_payment = self.ledger.payments().iter().any(|row| *row.payment.as_bytes() == made);
        if is_payment || self.ledger.refunds().iter().any(|row| *row.refund.as_bytes() == made) {
            self.violate("P4", format!("payer {id} is told that nothing happened ({refusal:?}), and it did"));
        }
        let PayWrite { brand, brand_of_order, intent, order, .. } = &self.payment_world.writes[id];
        let (other_brand, order) = (brand != brand_of_order, order.as_uuid());
        let rows = Vec::from_iter(self.ledger.payments().into_iter().filter(|row| row.order == order));
        let fits = match (refusal, intent) {
            (Some(Refusal::NotFound), _) => other_brand || !existed,
            (Some(Refusal::WrongAmount), PayIntent::Pay { amount, .. }) => {
                let agreed = self.payment_world.bank.agreed_for(order.as_bytes());
                agreed != Some(*amount)
            }
            (Some(Refusal::KeyReused), PayIntent::Pay { slips, .. }) => slips.is_some(),
            (Some(Refusal::AlreadyPaid), PayIntent::Pay { .. }) => {
                rows.iter().any(|row| is_charged(row) && self.key_of(row.payment.as_bytes()) != Some(key))
            }
            (Some(Refusal::OrderNotPayable), PayIntent::Pay { .. }) => {
                self.ledger.state_of(&order) != Some("placed") || rows.iter().any(|row| is_late(row))
            }
            (Some(Refusal::PaymentInProgress), PayIntent::Pay { .. }) => {
                rows.iter().any(|row| self.key_of(row.payment.as_bytes()) != Some(key))
            }
            (Some(Refusal::RefundTooLarge), PayIntent::Refund { amount, currency, .. }) => {
                let of = self
                    .ledger
                    .refunds()
                    .into_iter()
                    .filter(|row| rows.iter().any(|of| of.payment == row.payment));
                *currency != "KRW" || rows.iter().all(|row| *amount > row.amount) || of.count() > 0
            }
            (Some(Refusal::Busy | Refusal::DatabaseDown | Refusal::Late) | None, _) => true,
            (Some(_), _) => false,
        };
        if !fits {
            self.violate("P2", format!("payer {id} is refused as {refusal:?}, and the ledger has {rows:?}"));
        }
    }

    /// Compares the gateway's books, the ledger and the payers at the end. No money may be in the
    /// wrong place.
    pub(super) fn check_money(&mut self) {
        if let Err(what) = self.compare_books().and_then(|()| self.compare_payers()) {
            self.violate("MONEY", what);
        }
    }

    fn compare_books(&self) -> Result<(), String> {
        let is_settled = |order: &Order| self.payment_world.settled.contains(order);
        let mut payments = self.ledger.payments();
        payments.retain(|row| !is_settled(row.order.as_bytes()));
        let mut of_order: BTreeMap<Order, usize> = BTreeMap::new();
        let charges = self.payment_world.bank.charges().filter(|(_, _, order, _)| !is_settled(order));
        for (token, _, order, kept) in charges {
            let charged = |row: &&Rc<PaymentColumns>| row.payment_key == token && is_charged(row);
            let rows = Vec::from_iter(payments.iter().filter(charged));
            let [row] = rows[..] else {
                return Err(format!("the gateway charged {token}, and {} payments have that", rows.len()));
            };
            if row.amount - row.refunded != kept {
                return Err(format!("the gateway keeps {kept} of {row:?}"));
            }
            let stands = self.ledger.state_of(&row.order) == Some("placed");
            if kept != 0 && (!stands || is_late(row)) {
                return Err(format!("{kept} of {row:?} pays for nothing, and is not back"));
            }
            *of_order.entry(order).or_default() += usize::from(kept > 0);
        }
        if let Some((order, _)) = of_order.iter().find(|(_, count)| **count > 1) {
            return Err(format!("order {:?} is paid twice", OrderId::from_bytes(order)));
        }
        for row in &payments {
            if is_charged(row) != self.payment_world.bank.is_charged(&row.payment_key) && is_charged(row) {
                return Err(format!("no money moved for {row:?}"));
            }
            let refunds = self.ledger.refunds().into_iter();
            let done = refunds.filter(|refund| refund.payment == row.payment && refund.state == "done");
            if done.map(|refund| refund.amount).sum::<i64>() != row.refunded {
                return Err(format!("the refunds of {row:?} come to another sum"));
            }
            if matches!(row.state.as_str(), "confirming" | "unknown") {
                return Err(format!("the outcome of {row:?} is still unknown"));
            }
        }
        Ok(())
    }

    fn compare_payers(&self) -> Result<(), String> {
        let requests = self.ledger.requests();
        let refunds = self.ledger.refunds();
        // An answer from before a restore may not be true any more, because the agents ask the
        // gateway again.
        let is_named = |write: &PayWrite| self.payment_world.named.contains(write.order.as_bytes());
        let all = self.payment_world.writes.iter().enumerate();
        for (number, write) in all.filter(|(_, write)| !is_named(write)) {
            let key = write.attempts.first().map(|attempt| self.payment_world.attempts[*attempt].key);
            let request = key.and_then(|key| requests.get(&key[..]));
            let row = request.and_then(|request| self.ledger.payment_row(&request.payment));
            let refund = request.and_then(|request| request.refund);
            let refund = refund.and_then(|id| refunds.iter().find(|row| row.refund == id));
            let fits = match write.end {
                Some(PayEnd::Paid) => row.as_ref().is_some_and(|row| is_charged(row) && !is_late(row)),
                Some(PayEnd::NotPaid) => row.as_ref().is_some_and(|row| was_denied(row)),
                Some(PayEnd::GivenBack) => refund.is_some_and(|row| row.state == "done"),
                Some(PayEnd::NotGivenBack) => refund.is_some_and(|row| row.state == "refused"),
                Some(PayEnd::Refused(_)) => request.is_none(),
                None => false,
            };
            if !fits {
                return Err(format!(
                    "payer {number} ended {:?}, and the ledger has {row:?}, {refund:?}",
                    write.end
                ));
            }
        }
        Ok(())
    }
}

fn was_any_denied(rows: &[Rc<PaymentColumns>]) -> bool {
    rows.iter().any(|row| was_denied(row))
}
