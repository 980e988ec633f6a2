//! What the payment lane carries beside the order lanes' messages: charges, refunds, questions, and how a payment stands.
//!
//! Nothing here is personal: a payment key is what the gateway knows a charge by, and a reason is about goods.

use bytes::Bytes;

use crate::domain::{
    self, Brand, Currency, KeyDigest, Money, OrderId, PaymentId, PaymentKey, RefundId, payment_body,
};

/// The feature that both hellos must name for a link to have a payment lane.
pub const FEATURE: &str = "payments";

/// "Charge for this order."
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pay {
    /// Whose shop.
    #[prost(string, tag = "1")]
    pub brand: String,
    /// The order: 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub order: Bytes,
    /// The digest of the request's own idempotency key: 32 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub key: Bytes,
    /// The id that the payment is to have: 16 bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub payment: Bytes,
    /// Minor units.
    #[prost(int64, tag = "5")]
    pub amount: i64,
    /// ISO 4217 code.
    #[prost(string, tag = "6")]
    pub currency: String,
    /// What the gateway knows it by.
    #[prost(string, tag = "7")]
    pub payment_key: String,
}

/// "Give part of this payment back."
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refund {
    /// Whose shop.
    #[prost(string, tag = "1")]
    pub brand: String,
    /// The order: 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub order: Bytes,
    /// The digest of the request's own idempotency key: 32 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub key: Bytes,
    /// The payment: 16 bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub payment: Bytes,
    /// The id that the refund is to have: 16 bytes.
    #[prost(bytes = "bytes", tag = "5")]
    pub refund: Bytes,
    /// Minor units.
    #[prost(int64, tag = "6")]
    pub amount: i64,
    /// ISO 4217 code.
    #[prost(string, tag = "7")]
    pub currency: String,
    /// Why.
    #[prost(string, tag = "8")]
    pub reason: String,
}

/// "How does this payment stand?"
#[derive(Clone, PartialEq, prost::Message)]
pub struct AskPayment {
    /// Whose shop.
    #[prost(string, tag = "1")]
    pub brand: String,
    /// The order: 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub order: Bytes,
    /// The payment: 16 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub payment: Bytes,
    /// The digest of the idempotency key that it was asked for under, where the caller knows it; as for an order.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub key: Option<Bytes>,
}

/// How a payment stands.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PaymentState {
    /// The payment's id as the ledger has it: 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub payment: Bytes,
    /// Its order: 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub order: Bytes,
    /// A code of `domain::PaymentState`, one that the version before knows: see `exactly`.
    #[prost(string, tag = "3")]
    pub state: String,
    /// Minor units.
    #[prost(int64, tag = "4")]
    pub amount: i64,
    /// ISO 4217 code of every amount here.
    #[prost(string, tag = "5")]
    pub currency: String,
    /// Minor units that are back.
    #[prost(int64, tag = "6")]
    pub refunded: i64,
    /// Why it was declined or not paid.
    #[prost(string, optional, tag = "7")]
    pub code: Option<String>,
    /// When its attempt was committed: microseconds since 1970.
    #[prost(int64, tag = "8")]
    pub created_at_micros: i64,
    /// Its refunds, the oldest first.
    #[prost(message, repeated, tag = "9")]
    pub refunds: Vec<RefundState>,
    /// The refund that this answers a request for: 16 bytes.
    #[prost(bytes = "bytes", optional, tag = "10")]
    pub refund: Option<Bytes>,
    /// Whether an earlier request under the same key was taken.
    #[prost(bool, tag = "11")]
    pub replayed: bool,
    /// The code of its state, where the version before does not know it: `state` is then the nearest one that it knows.
    #[prost(string, optional, tag = "12")]
    pub exactly: Option<String>,
}

impl PaymentState {
    /// The code of its state, as exactly as the sender said it and this build knows it.
    pub fn state_code(&self) -> &str {
        let known = |code: &&str| domain::PaymentState::from_code(code).is_some();
        self.exactly.as_deref().filter(known).unwrap_or(&self.state)
    }

    /// This with that state, for a peer of this version and of the one before.
    #[must_use]
    pub fn standing(self, state: domain::PaymentState) -> Self {
        let told = state.for_the_version_before();
        Self {
            state: told.code().to_owned(),
            exactly: (told != state).then(|| state.code().to_owned()),
            ..self
        }
    }
}

/// How a refund stands.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RefundState {
    /// Its id: 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub refund: Bytes,
    /// A code of `domain::RefundState`.
    #[prost(string, tag = "2")]
    pub state: String,
    /// Minor units.
    #[prost(int64, tag = "3")]
    pub amount: i64,
    /// Nobody asked for it: its order was cancelled.
    #[prost(bool, tag = "4")]
    pub automatic: bool,
    /// Why the gateway refused it.
    #[prost(string, optional, tag = "5")]
    pub code: Option<String>,
    /// When it was committed: microseconds since 1970.
    #[prost(int64, tag = "6")]
    pub created_at_micros: i64,
}

/// A [`Pay`] whose every part is in its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayOrder {
    /// Whose shop.
    pub brand: Brand,
    /// Which order.
    pub order: OrderId,
    /// The request's idempotency key, as its digest.
    pub key: KeyDigest,
    /// The id that the payment is to have.
    pub payment: PaymentId,
    /// How much.
    pub amount: Money,
    /// What the gateway knows it by.
    pub payment_key: PaymentKey,
}

/// A [`Refund`] whose every part is in its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundPayment {
    /// Whose shop.
    pub brand: Brand,
    /// Which order.
    pub order: OrderId,
    /// The request's idempotency key, as its digest.
    pub key: KeyDigest,
    /// Which payment.
    pub payment: PaymentId,
    /// The id that the refund is to have.
    pub refund: RefundId,
    /// How much.
    pub amount: Money,
    /// Why.
    pub reason: String,
}

impl Pay {
    /// Checks every part; `None` if one is not in its form.
    pub fn check(&self) -> Option<PayOrder> {
        Some(PayOrder {
            brand: Brand::new(&self.brand).ok()?,
            order: OrderId::from_bytes(&self.order).ok()?,
            key: KeyDigest::from_bytes(&self.key)?,
            payment: PaymentId::from_bytes(&self.payment).ok()?,
            amount: positive(self.amount, &self.currency)?,
            payment_key: PaymentKey::new(&self.payment_key)?,
        })
    }
}

impl Refund {
    /// Checks every part; `None` if one is not in its form.
    pub fn check(&self) -> Option<RefundPayment> {
        Some(RefundPayment {
            brand: Brand::new(&self.brand).ok()?,
            order: OrderId::from_bytes(&self.order).ok()?,
            key: KeyDigest::from_bytes(&self.key)?,
            payment: PaymentId::from_bytes(&self.payment).ok()?,
            refund: RefundId::from_bytes(&self.refund).ok()?,
            amount: positive(self.amount, &self.currency)?,
            reason: Some(&self.reason).filter(|reason| payment_body::is_reason(reason)).cloned()?,
        })
    }
}

fn positive(amount: i64, currency: &str) -> Option<Money> {
    Money::new(amount, Currency::new(currency).ok()?).filter(|money| money.amount() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_unknown_to_the_previous_version_is_sent_as_the_nearest() {
        use domain::PaymentState as S;
        for state in S::ALL.iter().copied() {
            let wire = PaymentState::default().standing(state);
            assert_eq!(wire.state_code(), state.code());
            assert_eq!(wire.state, state.for_the_version_before().code());
        }
        let newer = PaymentState {
            exactly: Some("a_state_to_come".to_owned()),
            state: "paid".to_owned(),
            ..PaymentState::default()
        };
        assert_eq!(newer.state_code(), "paid");
    }
}
