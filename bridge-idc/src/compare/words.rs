//! Compares operators' decisions (`payments resolve`) with the ledger. A restore of the database
//! also removes these decisions, and the agents would query the gateway again about payments that
//! are already resolved.
//!
//! The log has a decision before its commit, and an entry of the commit after it. People make these
//! decisions, so there are few, and each is looked up in the ledger by itself.

use std::collections::HashMap;

use bridge_protocol::audit::entry::{Ended, Resolved, Word};
use bridge_protocol::domain::{Brand, KeyDigest, OrderId, PaymentId, RefundId, RefundState};

use super::{ComparedItem, Counts, Finding, FindingKind, Part, follows, is_open};
use crate::payments::{Payment, Refund};

/// An operator's decision about a payment or a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorWord {
    /// Brand of the order.
    pub brand: Brand,
    /// The payment's order.
    pub order: OrderId,
    /// The payment.
    pub payment: PaymentId,
    /// The refund, if the decision is about one.
    pub refund: Option<RefundId>,
    /// The state that the decision gives.
    pub outcome: Word,
    /// The operator's reason, as a code.
    pub reason: Word,
    /// True if the log has the commit of the decision, not only the decision.
    pub is_committed: bool,
}

/// The state of a payment and its refunds in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingPayment {
    /// The payment's state.
    pub state: String,
    /// The payment's refunds.
    pub refunds: Vec<StandingRefund>,
}

/// The state of a refund in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingRefund {
    /// The refund's id.
    pub refund: RefundId,
    /// True if the agent began the refund by itself.
    pub automatic: bool,
    /// The refund's state.
    pub state: String,
    /// The code that explains the refund's state.
    pub code: Option<String>,
}

/// The decisions of one range of keys, by the key of their payment or refund.
#[derive(Debug, Default)]
pub(super) struct Words(HashMap<KeyDigest, Vec<OperatorWord>>);

impl Words {
    /// Takes a decision. Returns false if its form is unknown to this version. A decision of an
    /// older agent names no key and is skipped.
    pub(super) fn take(&mut self, said: Resolved) -> bool {
        let Resolved { brand, key, order, outcome, payment, reason, refund, who: _ } = said;
        let (Some(brand), Some(key)) = (brand, key) else { return true };
        let refund = refund.map(|refund| refund.as_str().parse()).transpose();
        let (Ok(brand), Some(key), Ok(payment), Ok(refund)) = (
            Brand::new(brand.as_str()),
            KeyDigest::from_hex(&key.to_hex()),
            payment.as_str().parse(),
            refund,
        ) else {
            return false;
        };
        let word = OperatorWord { brand, order, payment, refund, outcome, reason, is_committed: false };
        self.0.entry(key).or_default().push(word);
        true
    }

    /// Notes a commit, which may be that of an operator's decision.
    pub(super) fn commit(&mut self, ended: &Ended) {
        let mut words = self.0.get_mut(&ended.key).into_iter().flatten().rev();
        if let Some(word) = words.find(|word| word.outcome == ended.outcome) {
            word.is_committed = true;
        }
    }
}

impl OperatorWord {
    /// True if the decision says that money moved.
    pub fn moved(&self) -> bool {
        !matches!(self.outcome.as_str(), "not_paid" | "refused")
    }

    /// Returns the ledger's state, and the kind of difference. The kind is `None` if the ledger has
    /// the decision or a later state.
    fn beside(&self, stands: Option<&StandingPayment>) -> (Option<String>, Option<FindingKind>) {
        let Some(payment) = stands else { return (None, Some(self.missing())) };
        let Some(refund) = self.refund else {
            let now = payment.state.as_str();
            let what = if is_open(now) {
                Some(self.missing())
            } else if follows(self.outcome.as_str(), now) || (!self.moved() && is_not_charged_in_time(now)) {
                None
            } else {
                self.contradicted()
            };
            return (Some(now.to_owned()), what);
        };
        let Some(known) = payment.refunds.iter().find(|known| known.refund == refund) else {
            return (None, Some(self.missing()));
        };
        let what = match known.state.as_str() {
            now if is_open(now) => Some(self.missing()),
            // The money went back after all.
            "done" => None,
            _ if !self.moved() => None,
            // The rest that other refunds left went back by hand. The ledger has it as a refund of
            // its own.
            _ if known.automatic && payment.went_back_by_hand(&self.reason) => None,
            _ if known.automatic => Some(self.missing()),
            _ => self.contradicted(),
        };
        (Some(known.state.clone()), what)
    }

    /// Returns the kind of difference if the ledger lacks the decision. If the log has no commit of
    /// it, its command may have failed.
    fn missing(&self) -> FindingKind {
        if self.is_committed { FindingKind::Lost } else { FindingKind::Unaccounted }
    }

    /// Returns the kind of difference if the ledger has the opposite. If the log has no commit of
    /// the decision, the decision came too late, and this is no difference.
    fn contradicted(&self) -> Option<FindingKind> {
        self.is_committed.then_some(FindingKind::Otherwise)
    }

    /// Returns the arguments of the command that repeats the decision.
    pub fn command(&self) -> String {
        let refund = self.refund.map(|refund| format!("--refund {refund} ")).unwrap_or_default();
        let state = if self.moved() { "paid" } else { "not-paid" };
        format!("payments resolve {} {refund}--as {state} --reason {}", self.payment, self.reason)
    }
}

impl StandingPayment {
    fn went_back_by_hand(&self, reason: &Word) -> bool {
        self.refunds.iter().any(|refund| {
            refund.automatic && refund.state == "done" && refund.code.as_deref() == Some(reason.as_str())
        })
    }
}

impl From<&Payment> for StandingPayment {
    fn from(payment: &Payment) -> Self {
        let refund = |&Refund { refund, automatic, state, ref code, .. }: &Refund| StandingRefund {
            refund,
            automatic,
            state: RefundState::code(state).to_owned(),
            code: code.as_ref().map(|code| code.as_str().to_owned()),
        };
        Self { state: payment.state.code().to_owned(), refunds: payment.refunds.iter().map(refund).collect() }
    }
}

/// True if no money moved, or if it moved too late. Both may follow an operator's `not-paid`.
fn is_not_charged_in_time(state: &str) -> bool {
    matches!(state, "declined" | "not_paid" | "charged_late" | "returned")
}

impl Part<'_> {
    /// Returns the operators' decisions for these keys, after all logs are read. The caller looks
    /// up each in the ledger and passes it to [`Self::word`].
    pub fn take_words(&mut self) -> Vec<OperatorWord> {
        std::mem::take(&mut self.words.0).into_values().flatten().collect()
    }

    /// Compares a decision with the state of its payment in the ledger. `told` gets a finding if
    /// they differ.
    pub fn word(
        &self,
        word: OperatorWord,
        stands: Option<&StandingPayment>,
        counts: &mut Counts,
        mut told: impl FnMut(Finding),
    ) {
        let (ledger, what) = word.beside(stands);
        let Some(what) = what else {
            counts.agreed += 1;
            return;
        };
        counts.count(what);
        told(Finding {
            brand: word.brand.clone(),
            order: word.order,
            about: ComparedItem::Resolution,
            log: Some(word.outcome.as_str().to_owned()),
            ledger,
            what,
            word: Some(word),
        });
    }
}
