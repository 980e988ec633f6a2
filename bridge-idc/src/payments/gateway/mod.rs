//! What a payment gateway is asked, and what its answers prove. Whatever proves nothing is no failure: it is unknown.

/// The adapter for Toss Payments.
pub mod toss;

use bridge_protocol::domain::ReasonCode;

use crate::payments::{Charge, GiveBack};

/// A payment gateway. Each call ends by itself, within the gateway's own time-out, and never panics on an answer.
pub trait Gateway: Send + Sync + 'static {
    /// Charges. The payment's id is the idempotency key: asked any number of times, it charges once.
    fn confirm(&self, charge: &Charge) -> impl Future<Output = GatewayAnswer> + Send;

    /// Asks by our own order id whether this was charged. Changes nothing.
    fn find(&self, charge: &Charge) -> impl Future<Output = ChargeStatus> + Send;

    /// Asks by our own order id what was given back of this charge: each amount, in minor units. Changes nothing.
    fn find_given_back(&self, charge: &Charge) -> impl Future<Output = Result<Vec<i64>, NoProof>> + Send;

    /// Gives back. The refund's id is the idempotency key: asked any number of times, it gives back once.
    fn give_back(&self, refund: &GiveBack) -> impl Future<Output = GatewayAnswer> + Send;
}

/// What a gateway's answer to a request comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayAnswer {
    /// It is done.
    Done,
    /// It is refused, for certain and for ever.
    Refused(ReasonCode),
    /// Nobody can tell.
    Unknown(NoProof),
}

/// What a gateway knows of a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChargeStatus {
    /// Money moved.
    Charged,
    /// None moved, and none will.
    NotCharged(ReasonCode),
    /// It waits for the shop's confirmation.
    NotConcluded,
    /// It knows nothing of it.
    NoTrace,
    /// Nobody can tell.
    Unknown(NoProof),
}

/// Why an answer proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoProof {
    /// It was not asked: this agent was held up until its request would have counted as over.
    #[error("it was not asked, since this agent was held up for too long")]
    NotAsked,
    /// No answer in time.
    #[error("it did not answer in time")]
    TimedOut,
    /// No connection, or one that broke.
    #[error("it cannot be reached, or the connection broke")]
    Unreachable,
    /// A status that says nothing about the payment, such as a redirect or an error of its own.
    #[error("it answered with status {0}")]
    Status(u16),
    /// More than is read of an answer.
    #[error("its answer is too long")]
    TooLong,
    /// Not in the form of an answer.
    #[error("its answer is not in the form of one")]
    Unreadable,
    /// About another payment, another amount or another state than what was asked.
    #[error("its answer does not fit the question")]
    Mismatch,
    /// A code that is no proof of anything.
    #[error("it answered with code {0}")]
    Code(ReasonCode),
}
