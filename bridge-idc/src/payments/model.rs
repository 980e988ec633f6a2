//! Types of payments: requests to the ledger and to a gateway, and the state of a payment and its
//! refunds.

use bridge_protocol::domain::{
    Brand, KeyDigest, Money, OrderId, PaymentId, PaymentKey, PaymentState, ReasonCode, RefundId, RefundState,
    UnixMicros,
};

/// A request to charge for an order, for the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeRequest {
    /// Brand of the order.
    pub brand: Brand,
    /// Digest of the request's idempotency key.
    pub key: KeyDigest,
    /// Fingerprint of the request.
    pub fingerprint: [u8; 32],
    /// The charge.
    pub charge: Charge,
}

/// A request to refund, for the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GiveBackRequest {
    /// Brand of the order.
    pub brand: Brand,
    /// Digest of the request's idempotency key.
    pub key: KeyDigest,
    /// Fingerprint of the request.
    pub fingerprint: [u8; 32],
    /// Order of the payment.
    pub order: OrderId,
    /// The payment to refund.
    pub payment: PaymentId,
    /// Id of the new refund.
    pub refund: RefundId,
    /// Amount to refund.
    pub amount: Money,
    /// Reason of the refund; never personal data.
    pub reason: String,
}

/// A charge, for a gateway. The payment's id is the idempotency key, so the gateway charges once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// Id of the payment.
    pub payment: PaymentId,
    /// The order. Its id is the gateway's order id, too.
    pub order: OrderId,
    /// Amount to charge.
    pub amount: Money,
    /// The gateway's key of the payment.
    pub payment_key: PaymentKey,
}

/// A refund, for a gateway. The refund's id is the idempotency key, so the gateway refunds once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GiveBack {
    /// Id of the refund.
    pub refund: RefundId,
    /// Amount to refund.
    pub amount: Money,
    /// Reason of the refund.
    pub reason: String,
    /// The charge to refund.
    pub charge: Charge,
}

/// A payment as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Brand of the order.
    pub brand: Brand,
    /// Charge of the payment.
    pub charge: Charge,
    /// State of the payment.
    pub state: PaymentState,
    /// Refunded amount, in minor units.
    pub refunded: i64,
    /// Reason why the payment was declined or not paid.
    pub code: Option<ReasonCode>,
    /// Number of queries to the gateway about the payment.
    pub asks: u32,
    /// Time when the payment was committed, before the gateway was asked.
    pub created_at: UnixMicros,
    /// Time when the payment's outcome became known.
    pub concluded_at: Option<UnixMicros>,
    /// Time until which a request to charge may be on its way to the gateway, by the database's
    /// clock. Before that, only the answer to that very request can show that the payment was not
    /// charged.
    pub confirm_until: UnixMicros,
    /// Refunds of the payment, the oldest first.
    pub refunds: Vec<Refund>,
}

/// A refund as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// Id of the refund.
    pub refund: RefundId,
    /// Amount in minor units of the payment's currency.
    pub amount: i64,
    /// Reason of the refund.
    pub reason: String,
    /// True if Bridge made the refund by itself, because the order was cancelled or the charge came
    /// late.
    pub automatic: bool,
    /// State of the refund.
    pub state: RefundState,
    /// Reason why the gateway refused the refund, or an operator's reason for a decision about it.
    pub code: Option<ReasonCode>,
    /// Number of repeated requests to the gateway.
    pub asks: u32,
    /// Time when the refund was committed.
    pub created_at: UnixMicros,
    /// Time until which a request to refund may be on its way to the gateway, by the database's
    /// clock. It holds even after an answer that proves nothing. Before that time, no operator can
    /// decide that no money went back.
    pub give_back_until: UnixMicros,
    /// Time when the refund's outcome became known.
    pub concluded_at: Option<UnixMicros>,
}

impl Payment {
    /// Returns one of the payment's refunds.
    pub fn refund(&self, id: RefundId) -> Option<&Refund> {
        self.refunds.iter().find(|refund| refund.refund == id)
    }

    /// Returns the amount that can still be refunded, in minor units: the charged amount less all
    /// refunds that were not refused. It is 0 if no money moved.
    pub fn left(&self) -> i64 {
        if !self.state.is_charged() {
            return 0;
        }
        let refunds = self.refunds.iter().filter(|refund| refund.state != RefundState::Refused);
        self.charge.amount.amount() - refunds.map(|refund| refund.amount).sum::<i64>()
    }

    /// Returns the request to a gateway for one of its refunds.
    pub fn give_back(&self, refund: &Refund) -> Option<GiveBack> {
        Some(GiveBack {
            refund: refund.refund,
            amount: Money::new(refund.amount, self.charge.amount.currency())?,
            reason: refund.reason.clone(),
            charge: self.charge.clone(),
        })
    }
}
