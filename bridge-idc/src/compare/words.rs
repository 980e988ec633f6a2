//! What operators said with `payments resolve`, beside the ledger: a restore takes their words away as well, and the agents would
//! ask the gateway once more about what was ended.
//!
//! The log has a word before it is done, and that it is committed after it. People say them, so there are few: each is looked up
//! in the ledger by itself.

use std::collections::HashMap;

use bridge_protocol::audit::entry::{Ended, Resolved, Word};
use bridge_protocol::domain::{Brand, KeyDigest, OrderId, PaymentId, RefundId, RefundState};

use super::{ComparedItem, Counts, Finding, FindingKind, Part, follows, is_open};
use crate::payments::{Payment, Refund};

/// An operator's word about a payment or a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorWord {
    /// Whose shop.
    pub brand: Brand,
    /// The payment's order.
    pub order: OrderId,
    /// The payment.
    pub payment: PaymentId,
    /// The refund, where it is about one.
    pub refund: Option<RefundId>,
    /// How it stands by that word.
    pub outcome: Word,
    /// Why that is known, as a code.
    pub reason: Word,
    /// The log has that it was committed, and not only that it was said.
    pub is_committed: bool,
}

/// How a payment and its refunds stand in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingPayment {
    /// The payment's state.
    pub state: String,
    /// Its refunds.
    pub refunds: Vec<StandingRefund>,
}

/// How a refund stands in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingRefund {
    /// Its id.
    pub refund: RefundId,
    /// Nobody asked for it.
    pub automatic: bool,
    /// Its state.
    pub state: String,
    /// Why it stands so.
    pub code: Option<String>,
}

/// The words of one range of keys, by the key of what they are about.
#[derive(Debug, Default)]
pub(super) struct Words(HashMap<KeyDigest, Vec<OperatorWord>>);

impl Words {
    /// Takes a word. `false` if it is in no form that this version reads. One of a version before names no key, and is passed over.
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

    /// Something is committed: it may be what an operator said.
    pub(super) fn commit(&mut self, ended: &Ended) {
        let mut words = self.0.get_mut(&ended.key).into_iter().flatten().rev();
        if let Some(word) = words.find(|word| word.outcome == ended.outcome) {
            word.is_committed = true;
        }
    }
}

impl OperatorWord {
    /// Whether it says that money moved.
    pub fn moved(&self) -> bool {
        !matches!(self.outcome.as_str(), "not_paid" | "refused")
    }

    /// What the ledger has in its place, and what is wrong with that; `None` for the kind if the ledger has it, or knows more.
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
            // It went back after all.
            "done" => None,
            _ if !self.moved() => None,
            // What other refunds left of it went back by hand, and stands as a refund of its own.
            _ if known.automatic && payment.went_back_by_hand(&self.reason) => None,
            _ if known.automatic => Some(self.missing()),
            _ => self.contradicted(),
        };
        (Some(known.state.clone()), what)
    }

    /// The ledger has nothing of it. If it was said alone, its command may have failed.
    fn missing(&self) -> FindingKind {
        if self.is_committed { FindingKind::Lost } else { FindingKind::Unaccounted }
    }

    /// The ledger has the contrary: a word that was said alone came too late for it.
    fn contradicted(&self) -> Option<FindingKind> {
        self.is_committed.then_some(FindingKind::Otherwise)
    }

    /// The arguments by which it is said again.
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

/// No money moved, or it did when it was too late: that comes after an operator's "not paid".
fn is_not_charged_in_time(state: &str) -> bool {
    matches!(state, "declined" | "not_paid" | "charged_late" | "returned")
}

impl Part<'_> {
    /// What operators said of these keys, once the logs are read: each is looked up in the ledger, and given back to
    /// [`Self::word`].
    pub fn take_words(&mut self) -> Vec<OperatorWord> {
        std::mem::take(&mut self.words.0).into_values().flatten().collect()
    }

    /// How what a word is about stands in the ledger, if it is there; `told` is given what is wrong with that.
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
