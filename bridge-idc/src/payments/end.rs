//! How a request for a payment or a refund ended for now: what the service comes to, and whoever asked is told once it is logged.

use bridge_protocol::domain::{PaymentId, RefundId};
use bridge_protocol::wire::order::Refusal;

use super::Payment;

/// How a request ended for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceEnd {
    /// This is how the payment stands in the ledger.
    Stands {
        /// The payment.
        payment: Payment,
        /// The refund that was asked for, if one was.
        refund: Option<RefundId>,
        /// An earlier request under the same key had been taken.
        replayed: bool,
        /// That it stands so is in the audit log, as what this request came to.
        logged: bool,
    },
    /// It had no effect.
    Refused(Refusal),
    /// It had no effect, for this payment of the same order.
    InTheWay(Refusal, PaymentId),
    /// The database does not tell whether the request was taken: whoever asks again learns it.
    Unknown,
}

impl ServiceEnd {
    /// The same, which is in the audit log now.
    pub(super) fn logged(self) -> Self {
        match self {
            Self::Stands { payment, refund, replayed, .. } => {
                Self::Stands { payment, refund, replayed, logged: true }
            }
            other => other,
        }
    }
}
