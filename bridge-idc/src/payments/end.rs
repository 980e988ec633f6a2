//! The end of a request for a payment or a refund. It is logged before the caller gets it.

use bridge_protocol::domain::{PaymentId, RefundId};
use bridge_protocol::wire::order::Refusal;

use super::Payment;

/// The end of a request for a payment or a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceEnd {
    /// The ledger has the payment in this state.
    Stands {
        /// The payment.
        payment: Payment,
        /// The refund, if the request is for a refund.
        refund: Option<RefundId>,
        /// True if an earlier request under the same key was taken.
        replayed: bool,
        /// True if the audit log has this state as the conclusion of this request.
        logged: bool,
    },
    /// The request had no effect.
    Refused(Refusal),
    /// The request had no effect, because of this payment of the same order.
    InTheWay(Refusal, PaymentId),
    /// It is unknown if the ledger took the request. The caller must ask again.
    Unknown,
}

impl ServiceEnd {
    /// Marks the state as logged.
    pub(super) fn logged(self) -> Self {
        match self {
            Self::Stands { payment, refund, replayed, .. } => {
                Self::Stands { payment, refund, replayed, logged: true }
            }
            other => other,
        }
    }
}
