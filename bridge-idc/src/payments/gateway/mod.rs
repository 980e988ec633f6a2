//! The interface to a payment gateway, and the meaning of its answers. An answer that proves
//! nothing is no failure: the outcome is unknown.

/// The adapter for Toss Payments.
pub mod toss;

use bridge_protocol::domain::ReasonCode;

use crate::payments::{Charge, GiveBack};

/// A payment gateway. Each call ends within the gateway's own time-out, and never panics on an
/// answer.
pub trait Gateway: Send + Sync + 'static {
    /// Charges. The payment's id is the idempotency key, so repeated calls charge once.
    fn confirm(&self, charge: &Charge) -> impl Future<Output = GatewayAnswer> + Send;

    /// Asks by Bridge's order id if this charge was made. Changes nothing.
    fn find(&self, charge: &Charge) -> impl Future<Output = ChargeStatus> + Send;

    /// Asks by Bridge's order id for the refunds of this charge, and returns their amounts in minor
    /// units. Changes nothing.
    fn find_given_back(&self, charge: &Charge) -> impl Future<Output = Result<Vec<i64>, NoProof>> + Send;

    /// Refunds. The refund's id is the idempotency key, so repeated calls refund once.
    fn give_back(&self, refund: &GiveBack) -> impl Future<Output = GatewayAnswer> + Send;
}

/// Meaning of a gateway's answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayAnswer {
    /// The request is done.
    Done,
    /// The request is refused, and will never be done.
    Refused(ReasonCode),
    /// The outcome is unknown.
    Unknown(NoProof),
}

/// Meaning of a gateway's answer to a query about a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChargeStatus {
    /// Money moved.
    Charged,
    /// No money moved, and none will.
    NotCharged(ReasonCode),
    /// The charge waits for the shop's confirmation.
    NotConcluded,
    /// The gateway does not know the charge.
    NoTrace,
    /// The outcome is unknown.
    Unknown(NoProof),
}

/// The reason why an answer proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoProof {
    /// The gateway was not asked, because this agent was delayed for so long that another one may
    /// have taken over the row.
    #[error("it was not asked, because this agent was delayed for too long")]
    NotAsked,
    /// No answer came in time.
    #[error("it did not answer in time")]
    TimedOut,
    /// There was no connection, or it broke.
    #[error("it cannot be reached, or the connection broke")]
    Unreachable,
    /// The status says nothing about the payment, such as a redirect or a server error.
    #[error("it answered with status {0}")]
    Status(u16),
    /// The answer is longer than the agent reads.
    #[error("its answer is too long")]
    TooLong,
    /// The answer is not well-formed.
    #[error("its answer is malformed")]
    Unreadable,
    /// The answer is about another payment, amount or state.
    #[error("its answer is about another payment, amount or state")]
    Mismatch,
    /// The error code proves nothing.
    #[error("it answered with code {0}")]
    Code(ReasonCode),
}
