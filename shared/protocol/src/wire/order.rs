//! Messages of the order lanes: requests of the cloud agent (`ToIdc`) and answers of the IDC agent
//! (`ToCloud`).
//!
//! A request has a number that its sender chose, and every answer names it. Answers may come in any
//! order.

use bytes::Bytes;

use crate::domain::outcome::LaunchRefusal;
use crate::domain::{PaymentId, UnixMicros};

/// One frame from the cloud agent to the IDC agent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ToIdc {
    /// The sender's number for this request, unique while the sending process lives.
    #[prost(uint64, tag = "1")]
    pub request: u64,
    /// The request. `None` is a kind of a later version.
    #[prost(oneof = "to_idc::Kind", tags = "2, 3, 4, 6, 7, 8")]
    pub kind: Option<to_idc::Kind>,
    /// Number of the frame on this lane, from 1. The receiver detects a repeated frame by it.
    #[prost(uint64, tag = "5")]
    pub sequence: u64,
    /// Trace context of the storefront's request, as `TraceParent` writes it: 25 bytes.
    #[prost(bytes = "bytes", optional, tag = "15")]
    pub trace: Option<Bytes>,
    /// With a write: milliseconds for which it may still take effect, counted from when the frame
    /// is sent. The receiver adds it to its own clock, so the two clocks need not agree. Absent
    /// with a question, and from agents of earlier releases, which also ignore it.
    #[prost(uint32, optional, tag = "14")]
    pub remaining_millis: Option<u32>,
}

/// The kinds of [`ToIdc`].
pub mod to_idc {
    /// A request.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        /// Commit this order.
        #[prost(message, tag = "2")]
        Place(super::Envelope),
        /// Cancel an order.
        #[prost(message, tag = "3")]
        Cancel(super::Cancel),
        /// Return an order's state.
        #[prost(message, tag = "4")]
        Ask(super::Ask),
        /// Charge for an order. This kind and the two below are sent only on the payment lane.
        #[prost(message, tag = "6")]
        Pay(crate::wire::payment::Pay),
        /// Refund a payment.
        #[prost(message, tag = "7")]
        Refund(crate::wire::payment::Refund),
        /// Return a payment's state.
        #[prost(message, tag = "8")]
        AskPayment(crate::wire::payment::AskPayment),
    }
}

/// A sealed order: a clear header, clear terms, and sealed personal data.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Envelope {
    /// The sealing suite, from an allow-list (module `seal`).
    #[prost(uint32, tag = "1")]
    pub suite: u32,
    /// Id of the IDC's sealing key: 8 bytes.
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
    /// Brand of the order.
    #[prost(string, tag = "6")]
    pub brand: String,
    /// The order's id: 16 bytes, UUIDv7.
    #[prost(bytes = "bytes", tag = "7")]
    pub order: Bytes,
    /// The digest of brand and idempotency key: 32 bytes.
    #[prost(bytes = "bytes", tag = "8")]
    pub key: Bytes,
    /// [`Terms`] as bytes. They are hashed in this form, so nobody encodes them again.
    #[prost(bytes = "bytes", tag = "9")]
    pub terms: Bytes,
    /// The sealed personal data, with its tag of 16 bytes at the end.
    #[prost(bytes = "bytes", tag = "10")]
    pub ciphertext: Bytes,
}

/// The clear part of an order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Terms {
    /// Lines of the order.
    #[prost(message, repeated, tag = "1")]
    pub lines: Vec<Line>,
    /// ISO 4217 code of every amount here.
    #[prost(string, tag = "2")]
    pub currency: String,
    /// Shipping fee in minor units.
    #[prost(int64, tag = "3")]
    pub shipping_fee: i64,
    /// Total in minor units.
    #[prost(int64, tag = "4")]
    pub total: i64,
    /// The storefront's opaque id of the customer.
    #[prost(string, tag = "5")]
    pub customer_reference: String,
}

/// One line of [`Terms`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Line {
    /// SKU of the line.
    #[prost(string, tag = "1")]
    pub sku: String,
    /// Units of the SKU.
    #[prost(int64, tag = "2")]
    pub quantity: i64,
    /// Price of one unit, in minor units.
    #[prost(int64, tag = "3")]
    pub unit_price: i64,
}

/// Asks to cancel an order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Cancel {
    /// Brand of the order.
    #[prost(string, tag = "1")]
    pub brand: String,
    /// The order's id: 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub order: Bytes,
    /// Digest of the cancellation's own idempotency key: 32 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub key: Bytes,
}

/// Asks for an order's state.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ask {
    /// Brand of the order.
    #[prost(string, tag = "1")]
    pub brand: String,
    /// The order's id: 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub order: Bytes,
    /// Digest of the order's idempotency key, if the caller knows it. The key finds the order even
    /// if an earlier attempt committed it under another id.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub key: Option<Bytes>,
}

/// One frame from the IDC agent to the cloud agent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ToCloud {
    /// Number of the request that this answers.
    #[prost(uint64, tag = "1")]
    pub request: u64,
    /// The answer. `None` is a kind of a later version.
    #[prost(oneof = "to_cloud::Kind", tags = "2, 3, 4, 5")]
    pub kind: Option<to_cloud::Kind>,
}

/// The kinds of [`ToCloud`].
pub mod to_cloud {
    /// The answer.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        /// The request is committed, as the receipt says.
        #[prost(message, tag = "2")]
        Settled(super::Settled),
        /// The request was refused before it had any effect.
        #[prost(message, tag = "3")]
        Refused(super::Refused),
        /// State of the order.
        #[prost(message, tag = "4")]
        State(super::State),
        /// State of the payment.
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
    /// Set if the outcome is that of an earlier request under the same key.
    #[prost(bool, tag = "2")]
    pub replayed: bool,
}

/// A receipt with its proof (module `receipt` of this crate).
#[derive(Clone, PartialEq, prost::Message)]
pub struct Receipt {
    /// [`ReceiptFacts`] as bytes. They are the leaf of the batch's tree, so nobody encodes them
    /// again.
    #[prost(bytes = "bytes", tag = "1")]
    pub facts: Bytes,
    /// Index of the leaf in its batch.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// Leaves in the batch.
    #[prost(uint64, tag = "3")]
    pub size: u64,
    /// Sibling hashes from the leaf up, 32 bytes each.
    #[prost(bytes = "bytes", tag = "4")]
    pub path: Bytes,
    /// Ed25519 signature over size and root: 64 bytes.
    #[prost(bytes = "bytes", tag = "5")]
    pub signature: Bytes,
}

/// The facts that a receipt certifies.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReceiptFacts {
    /// Brand of the request.
    #[prost(string, tag = "1")]
    pub brand: String,
    /// Digest of the idempotency key: 32 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    /// The order's id: 16 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub order: Bytes,
    /// The outcome's code.
    #[prost(string, tag = "4")]
    pub outcome: String,
    /// SKU that the outcome is about.
    #[prost(string, optional, tag = "5")]
    pub sku: Option<String>,
    /// Price in the outcome, in minor units.
    #[prost(int64, optional, tag = "6")]
    pub price: Option<i64>,
    /// Currency of that price.
    #[prost(string, optional, tag = "7")]
    pub currency: Option<String>,
    /// The ledger's number for the outcome.
    #[prost(int64, tag = "8")]
    pub position: i64,
    /// Commit time, in microseconds since 1970-01-01 UTC.
    #[prost(int64, tag = "9")]
    pub committed_at_micros: i64,
    /// Reason of the launch that refused the order. `outcome` is then `sold-out`, which is what an
    /// agent of an earlier release reads, because it passes this field over.
    #[prost(message, optional, tag = "10")]
    pub launch: Option<RefusedByLaunch>,
}

/// Reason of a launch to refuse an order: `opens_at_micros` alone, or `limit` and `bought`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct RefusedByLaunch {
    /// Time at which the launch opens, in microseconds since 1970-01-01 UTC. It had not opened.
    #[prost(int64, optional, tag = "1")]
    pub opens_at_micros: Option<i64>,
    /// Units that the launch sells to one customer. The customer would have had more.
    #[prost(int64, optional, tag = "2")]
    pub limit: Option<i64>,
    /// Units that the customer had in orders that stand.
    #[prost(int64, optional, tag = "3")]
    pub bought: Option<i64>,
}

impl From<LaunchRefusal> for RefusedByLaunch {
    fn from(reason: LaunchRefusal) -> Self {
        match reason {
            LaunchRefusal::NotOpen { opens_at } => {
                Self { opens_at_micros: Some(opens_at.get()), ..Self::default() }
            }
            LaunchRefusal::LimitReached { limit, bought } => {
                Self { limit: Some(limit), bought: Some(bought), ..Self::default() }
            }
        }
    }
}

impl RefusedByLaunch {
    /// Returns the reason. `None` if it is one of a later release.
    pub fn reason(&self) -> Option<LaunchRefusal> {
        match (self.opens_at_micros, self.limit.zip(self.bought)) {
            (Some(at), None) => Some(LaunchRefusal::NotOpen { opens_at: UnixMicros::new(at) }),
            (None, Some((limit, bought))) => Some(LaunchRefusal::LimitReached { limit, bought }),
            _ => None,
        }
    }
}

/// Refusal of a request that had no effect.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refused {
    /// A [`Refusal`].
    #[prost(enumeration = "Refusal", tag = "1")]
    pub refusal: i32,
    /// With [`Refusal::UnknownKey`], the id of that sealing key: 8 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub key_id: Bytes,
    /// With [`Refusal::AlreadyPaid`] and [`Refusal::PaymentInProgress`], the order's conflicting
    /// payment: 16 bytes. Agents of earlier releases leave it empty.
    #[prost(bytes = "bytes", tag = "3")]
    pub payment: Bytes,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal: refusal.into(), ..Self::default() }
    }
}

impl Refused {
    /// Makes a refusal because of another payment of the same order.
    pub fn for_payment(refusal: Refusal, payment: PaymentId) -> Self {
        Self { payment: Bytes::copy_from_slice(payment.as_bytes()), ..refusal.into() }
    }

    /// Returns the conflicting payment, if the refusal names one.
    pub fn payment_in_the_way(&self) -> Option<PaymentId> {
        let is_for_one = matches!(self.refusal(), Refusal::AlreadyPaid | Refusal::PaymentInProgress);
        PaymentId::from_bytes(&self.payment).ok().filter(|_| is_for_one)
    }
}

/// Reasons to refuse a request before it has any effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Refusal {
    /// A reason that this build does not know. It is treated as [`Refusal::Invalid`].
    Unspecified = 0,
    /// Too many requests are unanswered. The caller should come back later.
    Busy = 1,
    /// The database does not answer, or the audit log cannot be written. The caller should come
    /// back later.
    DatabaseDown = 2,
    /// The session's encapsulation is not in the cache. The cloud agent must send the envelope
    /// again with it.
    SessionUnknown = 3,
    /// The envelope does not open: it was changed, or its suite is not allowed.
    EnvelopeRejected = 4,
    /// The request breaks a rule that the cloud agent should have checked.
    Invalid = 5,
    /// The IDC's database does not know the brand.
    UnknownBrand = 6,
    /// The key was used for another request.
    KeyReused = 7,
    /// There is no such order.
    NotFound = 8,
    /// The database refused this request alone. The IDC agent's log has the reason.
    Failed = 9,
    /// The order was cancelled, was never placed, or costs nothing.
    OrderNotPayable = 10,
    /// The amount or the currency differs from the order's.
    WrongAmount = 11,
    /// The order is paid, or was paid and refunded.
    AlreadyPaid = 12,
    /// Another payment of the order is being confirmed or has an unknown outcome.
    PaymentInProgress = 13,
    /// The amount is more than the rest of the payment.
    RefundTooLarge = 14,
    /// The envelope is sealed to a key that this agent does not have or no longer opens. The cloud
    /// agent must seal to another key or use another agent.
    UnknownKey = 15,
    /// The time that the frame named had passed before the request was begun. Only a request whose
    /// frame named a time is refused so.
    Late = 16,
}

impl Refusal {
    /// Returns the stable code for the audit log.
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
            Self::Late => "late",
        }
    }
}

/// State of an order. It never contains personal data.
#[derive(Clone, PartialEq, prost::Message)]
pub struct State {
    /// The order's id as the ledger has it: 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub order: Bytes,
    /// `placed`, `cancelled`, or the code of the rejection.
    #[prost(string, tag = "2")]
    pub state: String,
    /// The terms; absent for a rejected order, because only its outcome is kept.
    #[prost(message, optional, tag = "3")]
    pub terms: Option<Terms>,
    /// The ledger's number for the outcome.
    #[prost(int64, tag = "4")]
    pub position: i64,
    /// Commit time, in microseconds since 1970-01-01 UTC.
    #[prost(int64, tag = "5")]
    pub committed_at_micros: i64,
}
