//! What the sender has its shell do.

use super::LinkId;
use crate::domain::PaymentId;
use crate::wire::order::{Refusal, Refused, Settled, State, ToIdc};
use crate::wire::payment::PaymentState;

/// Names one request of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// How a request ended for its caller.
#[derive(Debug, Clone, PartialEq)]
pub enum CallerAnswer {
    /// Committed; the receipt is yet to be verified.
    Settled(Settled),
    /// Refused, with no effect.
    Refused(Refusal),
    /// Refused, with no effect, for this payment of the same order.
    InTheWay(Refusal, PaymentId),
    /// How the order stands.
    State(State),
    /// How the payment stands.
    Payment(PaymentState),
    /// It may or may not have been committed; settling goes on.
    Unknown,
    /// It had no effect: it never left, or was sent back unopened.
    NotSent,
    /// The IDC knows no such order, and a write about it is not settled yet: ask again.
    Pending,
}

impl CallerAnswer {
    /// What a refusal is to its caller.
    pub(super) fn refused(refused: &Refused) -> Self {
        let refusal = refused.refusal();
        refused
            .payment_in_the_way()
            .map_or(Self::Refused(refusal), |payment| Self::InTheWay(refusal, payment))
    }
}

/// What the shell does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send this on a lane of a link.
    Transmit {
        /// Which link.
        link: LinkId,
        /// Which of the lanes that this sender was given.
        lane: u8,
        /// What.
        message: ToIdc,
    },
    /// Answer the caller. A request may be answered a second time after [`CallerAnswer::Unknown`], once it has settled.
    Answer {
        /// Which request.
        request: RequestId,
        /// How it ended.
        answer: CallerAnswer,
    },
    /// Tell the caller that the queue is full, as [`Rejected::Full`](super::sender::Rejected::Full): this request was not sent, and
    /// left for one of a brand below its share.
    PushedOut {
        /// Which request.
        request: RequestId,
    },
    /// No link opens what this order is sealed to, and some link opens another key: have its caller seal it again, and
    /// give it to [`Sender::handle_sealed`](super::sender::Sender::handle_sealed). It does not end meanwhile.
    SealAgain {
        /// Which request.
        request: RequestId,
    },
}
