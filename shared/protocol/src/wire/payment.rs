//! Messages of the payment lane, beside those of the order lanes: charges, refunds, questions, and
//! states of payments.
//!
//! They contain nothing personal. A payment key is the gateway's token, and a reason is about
//! goods.

use bytes::Bytes;

use crate::domain::{
    self, Brand, Currency, KeyDigest, Money, OrderId, PaymentId, PaymentKey, RefundId, payment_body,
};

/// Feature that both hellos must name for a link to have a payment lane.
pub const FEATURE: &str = "payments";

/// Asks to charge for an order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pay {
    /// Brand of the order.
    #[prost(string, tag = "1")]
    pub brand: String,
    /// The order's id: 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub order: Bytes,
    /// Digest of the request's own idempotency key: 32 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub key: Bytes,
    /// Id for the new payment: 16 bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub payment: Bytes,
    /// Amount in minor units.
    #[prost(int64, tag = "5")]
    pub amount: i64,
    /// ISO 4217 code.
    #[prost(string, tag = "6")]
    pub currency: String,
    /// The gateway's token of the payment.
    #[prost(string, tag = "7")]
    pub payment_key: String,
}

/// Asks to refund a part of a payment.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refund {
    /// Brand of the order.
    #[prost(string, tag = "1")]
    pub brand: String,
    /// The order's id: 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub order: Bytes,
    /// Digest of the request's own idempotency key: 32 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub key: Bytes,
    /// The payment's id: 16 bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub payment: Bytes,
    /// Id for the new refund: 16 bytes.
    #[prost(bytes = "bytes", tag = "5")]
    pub refund: Bytes,
    /// Amount in minor units.
    #[prost(int64, tag = "6")]
    pub amount: i64,
    /// ISO 4217 code.
    #[prost(string, tag = "7")]
    pub currency: String,
    /// Reason of the refund.
    #[prost(string, tag = "8")]
    pub reason: String,
}

/// Asks for a payment's state.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AskPayment {
    /// Brand of the order.
    #[prost(string, tag = "1")]
    pub brand: String,
    /// The order's id: 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub order: Bytes,
    /// The payment's id: 16 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub payment: Bytes,
    /// Digest of the payment's idempotency key, if the caller knows it. The key finds the payment
    /// even if an earlier attempt committed it under another id.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub key: Option<Bytes>,
}

/// State of a payment.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PaymentState {
    /// The payment's id as the ledger has it: 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub payment: Bytes,
    /// Its order: 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub order: Bytes,
    /// A code of `domain::PaymentState` that the previous version knows; see `exactly`.
    #[prost(string, tag = "3")]
    pub state: String,
    /// Amount in minor units.
    #[prost(int64, tag = "4")]
    pub amount: i64,
    /// ISO 4217 code of every amount here.
    #[prost(string, tag = "5")]
    pub currency: String,
    /// Amount refunded, in minor units.
    #[prost(int64, tag = "6")]
    pub refunded: i64,
    /// Reason why it was declined or not paid.
    #[prost(string, optional, tag = "7")]
    pub code: Option<String>,
    /// Time at which its attempt was committed, in microseconds since 1970-01-01 UTC.
    #[prost(int64, tag = "8")]
    pub created_at_micros: i64,
    /// Its refunds, the oldest first.
    #[prost(message, repeated, tag = "9")]
    pub refunds: Vec<RefundState>,
    /// The refund that was requested, if this answers a refund request: 16 bytes.
    #[prost(bytes = "bytes", optional, tag = "10")]
    pub refund: Option<Bytes>,
    /// Set if an earlier request under the same key had the effect.
    #[prost(bool, tag = "11")]
    pub replayed: bool,
    /// The exact code of its state, if the previous version does not know it. `state` is then the
    /// nearest code that it knows.
    #[prost(string, optional, tag = "12")]
    pub exactly: Option<String>,
}

impl PaymentState {
    /// Returns the code of its state, as exactly as this build knows it.
    pub fn state_code(&self) -> &str {
        let known = |code: &&str| domain::PaymentState::from_code(code).is_some();
        self.exactly.as_deref().filter(known).unwrap_or(&self.state)
    }

    /// Sets the state, in the form for peers of this version and of the previous one.
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

/// State of a refund.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RefundState {
    /// Its id: 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub refund: Bytes,
    /// A code of `domain::RefundState`.
    #[prost(string, tag = "2")]
    pub state: String,
    /// Amount in minor units.
    #[prost(int64, tag = "3")]
    pub amount: i64,
    /// Set for an automatic refund, after its order was cancelled.
    #[prost(bool, tag = "4")]
    pub automatic: bool,
    /// Reason why the gateway refused it.
    #[prost(string, optional, tag = "5")]
    pub code: Option<String>,
    /// Time at which it was committed, in microseconds since 1970-01-01 UTC.
    #[prost(int64, tag = "6")]
    pub created_at_micros: i64,
}

/// A [`Pay`] whose parts are all valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayOrder {
    /// Brand of the order.
    pub brand: Brand,
    /// The order's id.
    pub order: OrderId,
    /// Digest of the request's idempotency key.
    pub key: KeyDigest,
    /// Id for the new payment.
    pub payment: PaymentId,
    /// Amount to charge.
    pub amount: Money,
    /// The gateway's token of the payment.
    pub payment_key: PaymentKey,
}

/// A [`Refund`] whose parts are all valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundPayment {
    /// Brand of the order.
    pub brand: Brand,
    /// The order's id.
    pub order: OrderId,
    /// Digest of the request's idempotency key.
    pub key: KeyDigest,
    /// The payment's id.
    pub payment: PaymentId,
    /// Id for the new refund.
    pub refund: RefundId,
    /// Amount to refund.
    pub amount: Money,
    /// Reason of the refund.
    pub reason: String,
}

impl Pay {
    /// Checks every part. Returns `None` if one is invalid.
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
    /// Checks every part. Returns `None` if one is invalid.
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
