//! Actions that the sender asks of its shell.

use super::LinkId;
use crate::domain::PaymentId;
use crate::wire::order::{Refusal, Refused, Settled, State, ToIdc};
use crate::wire::payment::PaymentState;

/// Id of one request, unique in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Answer to the caller of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum CallerAnswer {
    /// Committed. The receipt is not verified yet.
    Settled(Settled),
    /// Refused, without effect.
    Refused(Refusal),
    /// Refused without effect, because of this payment of the same order.
    InTheWay(Refusal, PaymentId),
    /// State of the order.
    State(State),
    /// State of the payment.
    Payment(PaymentState),
    /// It may or may not be committed. Settling goes on.
    Unknown,
    /// It had no effect: it was never sent, or was sent back unopened.
    NotSent,
    /// The IDC knows no such order, but a write about it is not settled yet. The caller should ask
    /// again.
    Pending,
}

impl CallerAnswer {
    /// Converts a refusal to the answer for its caller.
    pub(super) fn refused(refused: &Refused) -> Self {
        let refusal = refused.refusal();
        refused
            .payment_in_the_way()
            .map_or(Self::Refused(refusal), |payment| Self::InTheWay(refusal, payment))
    }
}

/// Next action of the shell.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send this on a lane of a link.
    Transmit {
        /// The link.
        link: LinkId,
        /// Index among the lanes of this sender.
        lane: u8,
        /// The message.
        message: ToIdc,
    },
    /// Answer the caller. After [`CallerAnswer::Unknown`], a second answer may follow when the
    /// request is settled.
    Answer {
        /// The request.
        request: RequestId,
        /// Its answer.
        answer: CallerAnswer,
    },
    /// Tell the caller that the queue is full, as with
    /// [`Rejected::Full`](super::sender::Rejected::Full). This request had no effect: it is a
    /// question, or was never sent. A request of a brand below its share took its place.
    PushedOut {
        /// The request.
        request: RequestId,
    },
    /// No link opens the key that this order is sealed to, but some link opens another key. Its
    /// caller must seal it again and pass it to
    /// [`Sender::handle_sealed`](super::sender::Sender::handle_sealed). The request does not end
    /// meanwhile.
    SealAgain {
        /// The request.
        request: RequestId,
    },
}
