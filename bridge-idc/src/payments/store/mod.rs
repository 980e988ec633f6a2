//! Payments in the ledger: short transactions, each behind the lock of its order's row. None of them asks a gateway.
//!
//! What happens to an order's payments and refunds, its cancellation included, waits for that one lock: so an order is
//! charged once, refunds never exceed what was paid, and money that comes in for a cancelled order is seen to.
//!
//! Nothing here logs. What is to be in the audit log before it is committed is an argument (`logged`), and the answer where it
//! is missing: whoever asks logs it, when no transaction is open, and asks again.

/// What the flow asks of a database.
mod statements;

/// Charges and refunds begun.
mod begin;

/// What the gateway's answers come to.
mod conclude;

/// Rows between SQL and the domain's types.
mod rows;

/// Questions, and rows that are due.
mod read;

use std::time::Duration;

use bridge_protocol::domain::{Brand, KeyDigest, OrderId, PaymentId, RefundId, UnixMicros};
use bridge_protocol::wire::order::Refusal;

pub use crate::database::NotDone;
use crate::database::{Begins, in_transaction};
use crate::payments::{ChargeRequest, GiveBackRequest, Payment};

pub use conclude::{Attempt, Concluded, Conclusion, OperatorDecision, ReportedOutcome, ResolveResult};
pub(crate) use conclude::{outcome, refund_cancelled};
pub use read::{Doubt, DuePayment, DueRefund, Sums};
pub(crate) use read::{payments, sums};
pub(crate) use statements::Statements;
// What the model of a database answers these with.
#[cfg(any(test, feature = "testing"))]
pub(crate) use {
    rows::{DoubtRow, DueRow, OrderRow, PaymentRow, RefundRow, RequestRow},
    statements::{NewPayment, PaymentEnd, RefundBegin, RefundEnd},
};

/// What a request to charge or to give back comes to at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun<T> {
    /// It is durable, and the gateway is to be asked by whoever is told this.
    New(T),
    /// An earlier request under the same key is: here is how it stands.
    Known(T),
    /// It had no effect.
    Refused(Refusal),
    /// It had no effect, for this payment of the same order.
    InTheWay(Refusal, PaymentId),
}

/// A refund that was begun: its payment with all refunds, and which of them it is.
pub type BegunRefund = (Payment, RefundId);

/// What is done about payments, over any database with transactions.
#[expect(async_fn_in_trait, reason = "whoever calls it knows which database it is")]
pub trait PaymentLedger: Begins<Own: Statements> {
    /// Takes a request to charge for an order: refused, known, or durable as `confirming`. For so long the request to the
    /// gateway counts as on its way; should nobody conclude it before, it is asked about then.
    async fn begin_payment(&self, asked: &ChargeRequest, hold: Duration) -> Result<Begun<Payment>, NotDone> {
        in_transaction!(self, writing tx => begin::begin_payment(tx, asked, hold).await)
    }

    /// Before a gateway is asked to charge once more: the payment as it stands while that request is on its way, for so long.
    /// `None` if it may not be asked: it is known what became of it, its order does not stand, or another request is on its
    /// way.
    async fn begin_again(
        &self,
        order: OrderId,
        id: PaymentId,
        hold: Duration,
    ) -> Result<Option<Payment>, NotDone> {
        in_transaction!(self, writing tx => begin::begin_again(tx, order, id, hold).await)
    }

    /// Takes a request to give back: refused, known, or durable. For so long the request to the gateway counts as on its way;
    /// should nobody conclude it before, it is asked for again then.
    async fn begin_refund(
        &self,
        asked: &GiveBackRequest,
        hold: Duration,
    ) -> Result<Begun<BegunRefund>, NotDone> {
        in_transaction!(self, writing tx => begin::begin_refund(tx, asked, hold).await)
    }

    /// Writes what was told about a payment. What contradicts what is known changes nothing, but for money that moved: that
    /// is charged late, and goes back. `held` is the payment's `confirm_until` if this is the answer to the request that it
    /// is about, which is on its way no longer. What it comes to is committed only if that is what is logged.
    async fn conclude_payment(
        &self,
        order: OrderId,
        id: PaymentId,
        told: &ReportedOutcome,
        held: Option<UnixMicros>,
        logged: Option<&Conclusion>,
    ) -> Result<Attempt<Concluded>, NotDone> {
        in_transaction!(self, logging tx => conclude::conclude_payment(tx, order, id, told, held, logged).await)
    }

    /// Ends the doubt about a payment by an operator's word, and keeps the reason; if what that comes to is what is logged.
    async fn resolve_payment(
        &self,
        order: OrderId,
        id: PaymentId,
        verdict: OperatorDecision<'_>,
        logged: Option<&Conclusion>,
    ) -> Result<Attempt<ResolveResult>, NotDone> {
        in_transaction!(self, logging tx => conclude::resolve_payment(tx, order, id, verdict, logged).await)
    }

    /// As [`Self::resolve_payment`], about a refund: whether the money went back. Of one that nobody asked for and the gateway
    /// refused it can be said as well that its money went back in another way, or what is left of it.
    async fn resolve_refund(
        &self,
        order: OrderId,
        id: PaymentId,
        refund: RefundId,
        verdict: OperatorDecision<'_>,
        logged: Option<&Conclusion>,
    ) -> Result<Attempt<ResolveResult>, NotDone> {
        in_transaction!(self, logging tx =>
            conclude::resolve_refund(tx, order, id, refund, verdict, logged).await)
    }

    /// Writes what was told about a refund, if what that comes to is what is logged; how its payment stands now.
    async fn conclude_refund(
        &self,
        order: OrderId,
        id: PaymentId,
        refund: RefundId,
        told: &ReportedOutcome,
        logged: Option<&Conclusion>,
    ) -> Result<Attempt<Concluded>, NotDone> {
        in_transaction!(self, logging tx => conclude::conclude_refund(tx, order, id, refund, told, logged).await)
    }

    /// A payment of this order; with a key, the one that was asked for under it, whatever its id.
    async fn look_up_payment(
        &self,
        brand: &Brand,
        order: OrderId,
        payment: PaymentId,
        key: Option<KeyDigest>,
    ) -> Result<Option<Payment>, NotDone> {
        in_transaction!(self, reading tx => read::look_up(tx, brand, order, payment, key).await)
    }

    /// Takes at most so many payments whose time has come. For so long nobody else takes them.
    async fn take_due_payments(&self, hold: Duration, rows_max: i64) -> Result<Vec<DuePayment>, NotDone> {
        in_transaction!(self, writing tx => read::take_due_payments(tx, hold, rows_max).await)
    }

    /// Takes at most so many refunds whose time has come. For so long nobody else takes them, and a request for each counts as on
    /// its way.
    async fn take_due_refunds(&self, hold: Duration, rows_max: i64) -> Result<Vec<DueRefund>, NotDone> {
        in_transaction!(self, writing tx => read::take_due_refunds(tx, hold, rows_max).await)
    }

    /// Takes at most so many refunds that were refused after a doubt and are to be looked at. For so long nobody else takes them.
    async fn take_refused_refunds(&self, hold: Duration, rows_max: i64) -> Result<Vec<DueRefund>, NotDone> {
        in_transaction!(self, writing tx => read::take_refused_refunds(tx, hold, rows_max).await)
    }

    /// Holds what the gateway shows as given back of a payment, each amount in minor units, against a refund of it that was refused:
    /// it is done if that is what they show; `None` if they cannot be told. What it comes to is committed only if that is what is
    /// logged.
    async fn look_at_refund(
        &self,
        order: OrderId,
        id: PaymentId,
        refund: RefundId,
        shown: Option<&[i64]>,
        logged: Option<&Conclusion>,
    ) -> Result<Attempt<Concluded>, NotDone> {
        in_transaction!(self, logging tx => conclude::look_at_refund(tx, order, id, refund, shown, logged).await)
    }

    /// Somebody says that the gateway knows more of an order's payment: it is due after so long, unless it is due before.
    /// True if one in doubt, or one that was given up, is due earlier now.
    async fn hint_payment(&self, order: OrderId, ask_after: Duration) -> Result<bool, NotDone> {
        in_transaction!(self, writing tx => read::hint(tx, order, ask_after).await)
    }

    /// A payment with its refunds, by its id alone.
    async fn payment(&self, id: PaymentId) -> Result<Option<Payment>, NotDone> {
        in_transaction!(self, reading tx => statements::payment(tx, id).await)
    }

    /// How much nobody can tell about.
    async fn doubt(&self) -> Result<Doubt, NotDone> {
        in_transaction!(self, reading tx => read::doubt(tx).await)
    }
}

impl<D: Begins<Own: Statements>> PaymentLedger for D {}
