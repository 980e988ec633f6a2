//! Payments in the ledger: short transactions, each under the lock of its order's row. None of them
//! asks a gateway.
//!
//! Every change of an order's payments and refunds, and its cancellation, takes that lock. So an
//! order is charged once, refunds never exceed the paid amount, and money for a cancelled order is
//! refunded.
//!
//! Nothing here writes to the audit log. A conclusion that must be in the log before its commit is
//! an argument (`logged`). If it is missing, the transaction returns it without a commit. The
//! caller logs it while no transaction is open, and calls again.

/// The statements of payments.
mod statements;

/// The start of charges and refunds.
mod begin;

/// Conclusions from reported outcomes.
mod conclude;

/// Rows, and their conversion to types of the domain.
mod rows;

/// Reads, and rows that are due.
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
// Rows that the model of a database returns.
#[cfg(any(test, feature = "testing"))]
pub(crate) use {
    rows::{DoubtRow, DueRow, OrderRow, PaymentRow, RefundRow, RequestRow},
    statements::{NewPayment, PaymentEnd, RefundBegin, RefundEnd},
};

/// The first result of a request to charge or to refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun<T> {
    /// The request is durable, and the caller must now ask the gateway.
    New(T),
    /// An earlier request under the same key was taken. This is its present state.
    Known(T),
    /// The request had no effect.
    Refused(Refusal),
    /// The request had no effect, because of this payment of the same order.
    InTheWay(Refusal, PaymentId),
}

/// A refund that was begun: its payment with all refunds, and its id.
pub type BegunRefund = (Payment, RefundId);

/// Operations on payments, over any database with transactions.
#[expect(async_fn_in_trait, reason = "every caller names the type of the database")]
pub trait PaymentLedger: Begins<Own: Statements> {
    /// Takes a request to charge for an order. It is refused, known, or durable as `confirming`.
    /// For the time `hold`, the request to the gateway counts as on its way. If no outcome is
    /// written by then, the payment becomes due.
    ///
    /// # Errors
    ///
    /// Fails if the ledger does not take the request, or if that is unknown.
    async fn begin_payment(&self, asked: &ChargeRequest, hold: Duration) -> Result<Begun<Payment>, NotDone> {
        in_transaction!(self, writing tx => begin::begin_payment(tx, asked, hold).await)
    }

    /// Prepares to ask the gateway to charge once more. Returns the payment, with the new request
    /// counting as on its way for the time `hold`. Returns `None` if the gateway must not be asked:
    /// the outcome is known, the order is not placed, or another request is on its way.
    ///
    /// # Errors
    ///
    /// Fails if the ledger does not permit it, or if that is unknown.
    async fn begin_again(
        &self,
        order: OrderId,
        id: PaymentId,
        hold: Duration,
    ) -> Result<Option<Payment>, NotDone> {
        in_transaction!(self, writing tx => begin::begin_again(tx, order, id, hold).await)
    }

    /// Takes a request to refund. It is refused, known, or durable. For the time `hold`, the
    /// request to the gateway counts as on its way. If no outcome is written by then, the refund
    /// becomes due.
    ///
    /// # Errors
    ///
    /// Fails if the ledger does not take the request, or if that is unknown.
    async fn begin_refund(
        &self,
        asked: &GiveBackRequest,
        hold: Duration,
    ) -> Result<Begun<BegunRefund>, NotDone> {
        in_transaction!(self, writing tx => begin::begin_refund(tx, asked, hold).await)
    }

    /// Writes the reported outcome of a payment, if `logged` is its conclusion.
    ///
    /// An outcome that contradicts a known one changes nothing. The exception is money that moved
    /// after the payment was given up: that payment is charged late, and is refunded. `held` is the
    /// payment's `confirm_until` if the report is the answer to the request that this time covers.
    /// That request is then no longer on its way.
    ///
    /// # Errors
    ///
    /// Fails if the ledger does not write it, or if that is unknown.
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

    /// Resolves the doubt about a payment by an operator's decision, if `logged` is its conclusion.
    /// The operator's reason is kept.
    ///
    /// # Errors
    ///
    /// Fails if the ledger does not write it, or if that is unknown.
    async fn resolve_payment(
        &self,
        order: OrderId,
        id: PaymentId,
        verdict: OperatorDecision<'_>,
        logged: Option<&Conclusion>,
    ) -> Result<Attempt<ResolveResult>, NotDone> {
        in_transaction!(self, logging tx => conclude::resolve_payment(tx, order, id, verdict, logged).await)
    }

    /// Resolves the doubt about a refund by an operator's decision, if `logged` is its conclusion.
    /// For an automatic refund that the gateway refused, the operator may also decide that its
    /// money, or the rest of the payment, went back in another way.
    ///
    /// # Errors
    ///
    /// Fails if the ledger does not write it, or if that is unknown.
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

    /// Writes the reported outcome of a refund, if `logged` is its conclusion. Returns the new
    /// state of its payment.
    ///
    /// # Errors
    ///
    /// Fails if the ledger does not write it, or if that is unknown.
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

    /// Returns a payment of this order. With a key, the payment is the one of the request under
    /// that key, and `payment` does not matter.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer or a row is corrupt.
    async fn look_up_payment(
        &self,
        brand: &Brand,
        order: OrderId,
        payment: PaymentId,
        key: Option<KeyDigest>,
    ) -> Result<Option<Payment>, NotDone> {
        in_transaction!(self, reading tx => read::look_up(tx, brand, order, payment, key).await)
    }

    /// Takes at most `rows_max` payments that are due. For the time `hold`, no other agent takes
    /// them.
    ///
    /// # Errors
    ///
    /// Fails if the ledger does not hold them, or if that is unknown.
    async fn take_due_payments(&self, hold: Duration, rows_max: i64) -> Result<Vec<DuePayment>, NotDone> {
        in_transaction!(self, writing tx => read::take_due_payments(tx, hold, rows_max).await)
    }

    /// Takes at most `rows_max` refunds that are due. For the time `hold`, no other agent takes
    /// them, and a request for each counts as on its way.
    ///
    /// # Errors
    ///
    /// Fails if the ledger does not hold them, or if that is unknown.
    async fn take_due_refunds(&self, hold: Duration, rows_max: i64) -> Result<Vec<DueRefund>, NotDone> {
        in_transaction!(self, writing tx => read::take_due_refunds(tx, hold, rows_max).await)
    }

    /// Takes at most `rows_max` refunds that were refused after a doubt and are due for a look. For
    /// the time `hold`, no other agent takes them.
    ///
    /// # Errors
    ///
    /// Fails if the ledger does not hold them, or if that is unknown.
    async fn take_refused_refunds(&self, hold: Duration, rows_max: i64) -> Result<Vec<DueRefund>, NotDone> {
        in_transaction!(self, writing tx => read::take_refused_refunds(tx, hold, rows_max).await)
    }

    /// Compares a refused refund with the amounts that the gateway shows as refunded of its
    /// payment, in minor units. `None` means that the gateway did not show them. The refund becomes
    /// done if an amount proves it, and if `logged` is that conclusion.
    ///
    /// # Errors
    ///
    /// Fails if the ledger does not write it, or if that is unknown.
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

    /// Takes a hint that the gateway knows more about an order's payment. The payment is due after
    /// `ask_after`, unless it is due earlier. Returns true if a payment of unknown outcome, or one
    /// that was given up, is due earlier now.
    ///
    /// # Errors
    ///
    /// Fails if the ledger does not write it, or if that is unknown.
    async fn hint_payment(&self, order: OrderId, ask_after: Duration) -> Result<bool, NotDone> {
        in_transaction!(self, writing tx => read::hint(tx, order, ask_after).await)
    }

    /// Returns the payment with this id, and its refunds.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer or a row is corrupt.
    async fn payment(&self, id: PaymentId) -> Result<Option<Payment>, NotDone> {
        in_transaction!(self, reading tx => statements::payment(tx, id).await)
    }

    /// Returns the number and age of unknown outcomes.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer.
    async fn doubt(&self) -> Result<Doubt, NotDone> {
        in_transaction!(self, reading tx => read::doubt(tx).await)
    }
}

impl<D: Begins<Own: Statements>> PaymentLedger for D {}
