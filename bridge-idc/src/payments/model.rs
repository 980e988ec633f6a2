//! What payments are made of: what is asked of the ledger and of a gateway, and how a payment and its refunds stand.

use bridge_protocol::domain::{
    Brand, KeyDigest, Money, OrderId, PaymentId, PaymentKey, PaymentState, ReasonCode, RefundId, RefundState,
    UnixMicros,
};

/// A request to charge for an order, as the ledger takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeRequest {
    /// Whose shop.
    pub brand: Brand,
    /// The request's idempotency key, as its digest.
    pub key: KeyDigest,
    /// Keyed hash of what is asked.
    pub fingerprint: [u8; 32],
    /// What is to be charged.
    pub charge: Charge,
}

/// A request to give back, as the ledger takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GiveBackRequest {
    /// Whose shop.
    pub brand: Brand,
    /// The request's idempotency key, as its digest.
    pub key: KeyDigest,
    /// Keyed hash of what is asked.
    pub fingerprint: [u8; 32],
    /// Of which order,
    pub order: OrderId,
    /// and which of its payments.
    pub payment: PaymentId,
    /// The id it is to have.
    pub refund: RefundId,
    /// How much.
    pub amount: Money,
    /// Why; never personal.
    pub reason: String,
}

/// What a gateway is asked to charge. The payment's id is the key under which it does so once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The payment.
    pub payment: PaymentId,
    /// The order, which is the gateway's order id as well.
    pub order: OrderId,
    /// How much.
    pub amount: Money,
    /// What the gateway knows it by.
    pub payment_key: PaymentKey,
}

/// What a gateway is asked to give back. The refund's id is the key under which it does so once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GiveBack {
    /// The refund.
    pub refund: RefundId,
    /// How much.
    pub amount: Money,
    /// Why.
    pub reason: String,
    /// Of which charge.
    pub charge: Charge,
}

/// A payment as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Whose shop.
    pub brand: Brand,
    /// What was or is to be charged.
    pub charge: Charge,
    /// How it stands.
    pub state: PaymentState,
    /// How much is back, in minor units.
    pub refunded: i64,
    /// Why it was declined or not paid.
    pub code: Option<ReasonCode>,
    /// How often the gateway was asked about it.
    pub asks: u32,
    /// When its attempt was committed.
    pub created_at: UnixMicros,
    /// When it was no longer in doubt.
    pub concluded_at: Option<UnixMicros>,
    /// Until when a request to charge may be on its way to the gateway, by the database's clock. Before that nobody says that
    /// it was not paid but who sent that request and was told so.
    pub confirm_until: UnixMicros,
    /// Its refunds, the oldest first.
    pub refunds: Vec<Refund>,
}

/// A refund as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// Its id.
    pub refund: RefundId,
    /// How much, in minor units of the payment's currency.
    pub amount: i64,
    /// Why.
    pub reason: String,
    /// Nobody asked for it: its order was cancelled, or it was charged late.
    pub automatic: bool,
    /// How it stands.
    pub state: RefundState,
    /// Why the gateway refused it, or why an operator said what became of it.
    pub code: Option<ReasonCode>,
    /// How often the gateway was asked for it again.
    pub asks: u32,
    /// When it was committed.
    pub created_at: UnixMicros,
    /// Until when a request to give back may be on its way to the gateway, by the database's clock, whatever was heard of it
    /// meanwhile but an end. Before that no operator says that nothing went back.
    pub give_back_until: UnixMicros,
    /// When it was no longer in doubt.
    pub concluded_at: Option<UnixMicros>,
}

impl Payment {
    /// One of its refunds.
    pub fn refund(&self, id: RefundId) -> Option<&Refund> {
        self.refunds.iter().find(|refund| refund.refund == id)
    }

    /// What can still be given back, in minor units: what moved, less every refund that was not refused.
    pub fn left(&self) -> i64 {
        if !self.state.is_charged() {
            return 0;
        }
        let refunds = self.refunds.iter().filter(|refund| refund.state != RefundState::Refused);
        self.charge.amount.amount() - refunds.map(|refund| refund.amount).sum::<i64>()
    }

    /// What a gateway is asked for to make one of its refunds.
    pub fn give_back(&self, refund: &Refund) -> Option<GiveBack> {
        Some(GiveBack {
            refund: refund.refund,
            amount: Money::new(refund.amount, self.charge.amount.currency())?,
            reason: refund.reason.clone(),
            charge: self.charge.clone(),
        })
    }
}
