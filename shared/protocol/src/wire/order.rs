//! The order lanes' messages: what the cloud asks (`ToIdc`) and what the IDC answers (`ToCloud`).
//!
//! A request has a number that its sender chose; every answer names it. Answers may come in any order.

use bytes::Bytes;

use crate::domain::PaymentId;

/// One frame from the cloud to the IDC.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ToIdc {
    /// The sender's number for this request, unique while the sending process lives.
    #[prost(uint64, tag = "1")]
    pub request: u64,
    /// What is asked; `None` is a kind that a later version added.
    #[prost(oneof = "to_idc::Kind", tags = "2, 3, 4, 6, 7, 8")]
    pub kind: Option<to_idc::Kind>,
    /// Counts the frames of this lane from 1: one that comes again is not taken for another.
    #[prost(uint64, tag = "5")]
    pub sequence: u64,
    /// Which trace the storefront's request belongs to, as `TraceParent` writes it: 25 bytes.
    #[prost(bytes = "bytes", optional, tag = "15")]
    pub trace: Option<Bytes>,
}

/// The kinds of [`ToIdc`].
pub mod to_idc {
    /// What is asked.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        /// Commit this order.
        #[prost(message, tag = "2")]
        Place(super::Envelope),
        /// Cancel an order.
        #[prost(message, tag = "3")]
        Cancel(super::Cancel),
        /// How does an order stand?
        #[prost(message, tag = "4")]
        Ask(super::Ask),
        /// Charge for an order; on the payment lane alone, as the two that follow.
        #[prost(message, tag = "6")]
        Pay(crate::wire::payment::Pay),
        /// Give back.
        #[prost(message, tag = "7")]
        Refund(crate::wire::payment::Refund),
        /// How does a payment stand?
        #[prost(message, tag = "8")]
        AskPayment(crate::wire::payment::AskPayment),
    }
}

/// A sealed order: a clear header, clear terms, sealed personal data.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Envelope {
    /// The sealing suite, from an allow-list; see `seal`.
    #[prost(uint32, tag = "1")]
    pub suite: u32,
    /// Which of the IDC's sealing keys: 8 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub key_id: Bytes,
    /// The sealing session: 16 bytes, a digest of its encapsulation.
    #[prost(bytes = "bytes", tag = "3")]
    pub session: Bytes,
    /// The session's encapsulation; empty on a lane that has carried it before.
    #[prost(bytes = "bytes", tag = "4")]
    pub encapsulation: Bytes,
    /// The record's number in its session, from 0.
    #[prost(uint64, tag = "5")]
    pub record: u64,
    /// Whose shop.
    #[prost(string, tag = "6")]
    pub brand: String,
    /// The order's id: 16 bytes, UUIDv7.
    #[prost(bytes = "bytes", tag = "7")]
    pub order: Bytes,
    /// The digest of brand and idempotency key: 32 bytes.
    #[prost(bytes = "bytes", tag = "8")]
    pub key: Bytes,
    /// [`Terms`] as bytes; hashed as they are, so never encoded again on the way.
    #[prost(bytes = "bytes", tag = "9")]
    pub terms: Bytes,
    /// The sealed personal data, its tag of 16 bytes at the end.
    #[prost(bytes = "bytes", tag = "10")]
    pub ciphertext: Bytes,
}

/// An order's clear part.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Terms {
    /// What is ordered.
    #[prost(message, repeated, tag = "1")]
    pub lines: Vec<Line>,
    /// ISO 4217 code of every amount here.
    #[prost(string, tag = "2")]
    pub currency: String,
    /// Minor units.
    #[prost(int64, tag = "3")]
    pub shipping_fee: i64,
    /// Minor units.
    #[prost(int64, tag = "4")]
    pub total: i64,
    /// The storefront's opaque id of the customer.
    #[prost(string, tag = "5")]
    pub customer_reference: String,
}

/// One line of [`Terms`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Line {
    /// What is ordered.
    #[prost(string, tag = "1")]
    pub sku: String,
    /// Units.
    #[prost(int64, tag = "2")]
    pub quantity: i64,
    /// Minor units a unit.
    #[prost(int64, tag = "3")]
    pub unit_price: i64,
}

/// "Cancel this order."
#[derive(Clone, PartialEq, prost::Message)]
pub struct Cancel {
    /// Whose shop.
    #[prost(string, tag = "1")]
    pub brand: String,
    /// The order's id: 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub order: Bytes,
    /// The digest of the cancellation's own idempotency key: 32 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub key: Bytes,
}

/// "How does this order stand?"
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ask {
    /// Whose shop.
    #[prost(string, tag = "1")]
    pub brand: String,
    /// The order's id: 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub order: Bytes,
    /// The digest of the idempotency key it was sent under, where the caller knows it: the key finds the order even
    /// if an earlier attempt committed it under another id.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub key: Option<Bytes>,
}

/// One frame from the IDC to the cloud.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ToCloud {
    /// The request that this answers.
    #[prost(uint64, tag = "1")]
    pub request: u64,
    /// The answer; `None` is a kind that a later version added.
    #[prost(oneof = "to_cloud::Kind", tags = "2, 3, 4, 5")]
    pub kind: Option<to_cloud::Kind>,
}

/// The kinds of [`ToCloud`].
pub mod to_cloud {
    /// The answer.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        /// It is committed, as the receipt says.
        #[prost(message, tag = "2")]
        Settled(super::Settled),
        /// It was refused before it had any effect.
        #[prost(message, tag = "3")]
        Refused(super::Refused),
        /// How the order stands.
        #[prost(message, tag = "4")]
        State(super::State),
        /// How the payment stands.
        #[prost(message, tag = "5")]
        Payment(crate::wire::payment::PaymentState),
    }
}

/// A committed outcome.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Settled {
    /// The signed receipt.
    #[prost(message, optional, tag = "1")]
    pub receipt: Option<Receipt>,
    /// Whether the outcome is an earlier request's, under the same key.
    #[prost(bool, tag = "2")]
    pub replayed: bool,
}

/// A receipt with its proof; see the crate's `receipt` module.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Receipt {
    /// [`ReceiptFacts`] as bytes: the leaf of the batch's tree, so never encoded again on the way.
    #[prost(bytes = "bytes", tag = "1")]
    pub facts: Bytes,
    /// The leaf's index in its batch.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// Leaves in the batch.
    #[prost(uint64, tag = "3")]
    pub size: u64,
    /// Sibling hashes from the leaf up, 32 bytes each.
    #[prost(bytes = "bytes", tag = "4")]
    pub path: Bytes,
    /// Ed25519 over size and root: 64 bytes.
    #[prost(bytes = "bytes", tag = "5")]
    pub signature: Bytes,
}

/// What a receipt certifies.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReceiptFacts {
    /// Whose shop.
    #[prost(string, tag = "1")]
    pub brand: String,
    /// Digest of the idempotency key: 32 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    /// The order: 16 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub order: Bytes,
    /// The outcome's code.
    #[prost(string, tag = "4")]
    pub outcome: String,
    /// The SKU that the outcome is about.
    #[prost(string, optional, tag = "5")]
    pub sku: Option<String>,
    /// The price that the outcome names, in minor units.
    #[prost(int64, optional, tag = "6")]
    pub price: Option<i64>,
    /// The currency of that price.
    #[prost(string, optional, tag = "7")]
    pub currency: Option<String>,
    /// The ledger's number for the outcome.
    #[prost(int64, tag = "8")]
    pub position: i64,
    /// Microseconds since 1970.
    #[prost(int64, tag = "9")]
    pub committed_at_micros: i64,
}

/// Why a request had no effect.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refused {
    /// A [`Refusal`].
    #[prost(enumeration = "Refusal", tag = "1")]
    pub refusal: i32,
    /// With [`Refusal::UnknownKey`], which sealing key that is: 8 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub key_id: Bytes,
    /// With [`Refusal::AlreadyPaid`] and [`Refusal::PaymentInProgress`], the order's payment that stands in the way: 16 bytes;
    /// none from an agent of before there was this field.
    #[prost(bytes = "bytes", tag = "3")]
    pub payment: Bytes,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal: refusal.into(), ..Self::default() }
    }
}

impl Refused {
    /// A refusal for a payment of the same order.
    pub fn for_payment(refusal: Refusal, payment: PaymentId) -> Self {
        Self { payment: Bytes::copy_from_slice(payment.as_bytes()), ..refusal.into() }
    }

    /// The payment that stands in the way, if the refusal is for one that is named.
    pub fn payment_in_the_way(&self) -> Option<PaymentId> {
        let is_for_one = matches!(self.refusal(), Refusal::AlreadyPaid | Refusal::PaymentInProgress);
        PaymentId::from_bytes(&self.payment).ok().filter(|_| is_for_one)
    }
}

/// Reasons to refuse a request before it has any effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Refusal {
    /// A reason that this build does not know; treated as [`Refusal::Invalid`].
    Unspecified = 0,
    /// More is unanswered than the IDC accepts: come back.
    Busy = 1,
    /// The database does not answer, or the audit log cannot be written: come back.
    DatabaseDown = 2,
    /// The session's encapsulation is not known here: send the envelope again with it.
    SessionUnknown = 3,
    /// The envelope does not open: changed on the way, or of a suite that is not allowed.
    EnvelopeRejected = 4,
    /// The request breaks a rule that the cloud agent should have checked.
    Invalid = 5,
    /// The IDC's database does not know the brand.
    UnknownBrand = 6,
    /// The key was used for another request.
    KeyReused = 7,
    /// There is no such order.
    NotFound = 8,
    /// The database refused this request alone, for a reason in the IDC's log.
    Failed = 9,
    /// The order was cancelled, was never placed, or costs nothing.
    OrderNotPayable = 10,
    /// The amount or the currency is not the order's.
    WrongAmount = 11,
    /// The order is paid, or was and the money went back.
    AlreadyPaid = 12,
    /// Another payment of the order is being confirmed, or nobody can tell about it yet.
    PaymentInProgress = 13,
    /// More than what is left of the payment.
    RefundTooLarge = 14,
    /// The envelope is sealed to a key that this agent does not have, or no longer opens: seal it to another, or send it
    /// to another agent.
    UnknownKey = 15,
}

impl Refusal {
    /// The stable code in the audit log.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Busy => "busy",
            Self::DatabaseDown => "database-down",
            Self::SessionUnknown => "session-unknown",
            Self::EnvelopeRejected => "envelope-rejected",
            Self::Invalid => "invalid",
            Self::UnknownBrand => "unknown-brand",
            Self::KeyReused => "key-reused",
            Self::NotFound => "not-found",
            Self::Failed => "failed",
            Self::OrderNotPayable => "order-not-payable",
            Self::WrongAmount => "wrong-amount",
            Self::AlreadyPaid => "already-paid",
            Self::PaymentInProgress => "payment-in-progress",
            Self::RefundTooLarge => "refund-too-large",
            Self::UnknownKey => "unknown-key",
        }
    }
}

/// How an order stands: never personal data.
#[derive(Clone, PartialEq, prost::Message)]
pub struct State {
    /// The order's id as the ledger has it: 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub order: Bytes,
    /// `placed`, `cancelled`, or the code of the rejection.
    #[prost(string, tag = "2")]
    pub state: String,
    /// The terms; absent for a rejected order, of which only the outcome is kept.
    #[prost(message, optional, tag = "3")]
    pub terms: Option<Terms>,
    /// The ledger's number for the outcome.
    #[prost(int64, tag = "4")]
    pub position: i64,
    /// Microseconds since 1970.
    #[prost(int64, tag = "5")]
    pub committed_at_micros: i64,
}
