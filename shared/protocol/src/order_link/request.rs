//! State of one request in the sender.

use std::time::Duration;

use super::LinkId;
use super::fair_queue::QueuedRequest;
use super::fair_share::BrandIndex;
use super::output::{CallerAnswer, RequestId};
use crate::domain::{KeyDigest, OrderId};
use crate::seal::KeyId;
use crate::wire::order::to_idc;

/// Bytes of clear terms that cost as much as one small request: about eight lines.
const TERMS_BYTES_PER_COST: usize = 256;

/// Bytes of sealed data that cost as much as one small request.
const SEALED_BYTES_PER_COST: usize = 1_024;

/// Reasons to reject a request, which then has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The queue of its class is full, and the brand has its share of it.
    #[error("the queue is full")]
    Full,
    /// A request under the same idempotency key still waits for its answer.
    #[error("a request under this idempotency key is in progress")]
    InProgress,
    /// Another request under the same idempotency key is not settled yet.
    #[error("another request under this idempotency key is not settled")]
    KeyReused,
}

/// A keyed hash of a write's body. It distinguishes two bodies without revealing them; only this
/// process has the hash key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyMark(pub u64);

impl BodyMark {
    /// Mark of a question, which has no body.
    pub const NONE: Self = Self(0);
}

/// Classes of requests. Each has its own queue and limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestClass {
    /// An order, a cancellation, a payment or a refund.
    Write,
    /// A question about an order or a payment.
    Question,
}

impl RequestClass {
    /// All classes.
    pub const ALL: [Self; 2] = [Self::Write, Self::Question];

    /// Returns the class of a request.
    pub fn of(kind: &to_idc::Kind) -> Self {
        match kind {
            to_idc::Kind::Place(_)
            | to_idc::Kind::Cancel(_)
            | to_idc::Kind::Pay(_)
            | to_idc::Kind::Refund(_) => Self::Write,
            to_idc::Kind::Ask(_) | to_idc::Kind::AskPayment(_) => Self::Question,
        }
    }
}

/// A request that is not settled.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) brand: BrandIndex,
    pub(super) order: OrderId,
    pub(super) kind: to_idc::Kind,
    /// Idempotency key of a write.
    pub(super) key: Option<KeyDigest>,
    /// Mark of its body.
    pub(super) body: BodyMark,
    /// Set if it was let in above the limit of its queue.
    pub(super) is_extra: bool,
    /// Key that a sealed order is sealed to.
    pub(super) sealed_to: Option<KeyId>,
    /// Time at which the caller is told `Unknown` or `NotSent`; `None` after that.
    pub(super) caller_until: Option<Duration>,
    /// Time at which settling is given up.
    pub(super) settle_until: Duration,
    pub(super) place: RequestState,
    /// Number of times it was sent.
    pub(super) sent: u32,
    /// For a write: a copy of it, or of one that it replaced, was sent, and its fate is unknown.
    /// For a question: it came while a write about its order was not settled. The IDC may have
    /// answered it before that write, and the answer may arrive after it.
    pub(super) doubtful: bool,
    /// For a cancellation or a payment: it came while this sender was placing its order. An agent
    /// may have said "not found" before that order was committed.
    pub(super) early: bool,
    /// Links whose agents said that they do not know its order, in answer to this copy or an
    /// earlier one.
    pub(super) unknown_on: Vec<LinkId>,
    /// Links whose agents could not commit it, since it was last sent from the queue.
    pub(super) down_on: Vec<LinkId>,
    /// Time of its entry in `timers`.
    pub(super) timer: Duration,
}

/// Place of a request.
#[derive(Debug)]
pub(super) enum RequestState {
    /// In the queue.
    Queued,
    /// On a link, without an answer.
    InFlight {
        link: LinkId,
        /// Time at which it is sent again.
        resend_at: Duration,
        /// Set if it was sent without its session's encapsulation.
        bare: bool,
    },
    /// At its caller, which seals it again. An answer that arrives meanwhile is kept until it
    /// returns.
    Sealing(Option<Box<CallerAnswer>>),
    /// On no link. It cancels an order that this sender is placing and that no agent knew. It is
    /// sent again after the placing has ended.
    Behind,
}

impl Request {
    /// Returns its entry for the queue.
    ///
    /// It may leave a full queue if its caller can be told and it had no effect: a write that was
    /// never sent and is not doubtful, or any question.
    pub(super) fn queued(&self, id: RequestId) -> QueuedRequest {
        let had_no_effect = match self.class() {
            RequestClass::Write => self.sent == 0 && !self.doubtful,
            RequestClass::Question => true,
        };
        let may_leave = had_no_effect && self.caller_until.is_some();
        QueuedRequest { id, cost: cost(&self.kind), may_leave }
    }

    /// Returns its class.
    pub(super) fn class(&self) -> RequestClass {
        RequestClass::of(&self.kind)
    }

    /// Returns the milliseconds for which a write is still settled, rounded up. It may take effect
    /// until then, also after its caller was answered "unknown". A question has no effect, so it
    /// has none.
    pub(super) fn remaining_millis(&self, now: Duration) -> Option<u32> {
        self.key?;
        let remaining = self.settle_until.saturating_sub(now);
        Some(u32::try_from(remaining.as_micros().div_ceil(1_000)).unwrap_or(u32::MAX))
    }

    /// Returns true if it places its order.
    pub(super) fn places(&self) -> bool {
        matches!(self.kind, to_idc::Kind::Place(_))
    }

    /// Returns true if a copy of it is on a link.
    pub(super) fn is_out(&self) -> bool {
        matches!(self.place, RequestState::InFlight { .. })
    }

    /// Returns true if it is on that link without its session's encapsulation.
    pub(super) fn is_bare_on(&self, link: LinkId) -> bool {
        matches!(self.place, RequestState::InFlight { link: on, bare: true, .. } if on == link)
    }
}

pub(super) fn request_is_given_up(request: Option<&Request>, now: Duration) -> bool {
    request.is_none_or(|request| request.settle_until <= now)
}

/// Returns the cost of a request to its brand.
///
/// Each line of an order is work for the database, and takes about 30 bytes of the clear terms. The
/// sealed part is only carried and stored.
fn cost(kind: &to_idc::Kind) -> usize {
    match kind {
        to_idc::Kind::Place(envelope) => {
            1 + envelope.terms.len() / TERMS_BYTES_PER_COST
                + envelope.ciphertext.len() / SEALED_BYTES_PER_COST
        }
        _ => 1,
    }
}

/// Returns the key that a sealed order is sealed to.
pub(super) fn sealed_to(kind: &to_idc::Kind) -> Option<KeyId> {
    match kind {
        to_idc::Kind::Place(envelope) => KeyId::from_bytes(&envelope.key_id),
        _ => None,
    }
}

/// Returns the idempotency key of a write. Questions have none.
pub(super) fn write_key(kind: &to_idc::Kind) -> Option<KeyDigest> {
    match kind {
        to_idc::Kind::Place(envelope) => KeyDigest::from_bytes(&envelope.key),
        to_idc::Kind::Cancel(cancel) => KeyDigest::from_bytes(&cancel.key),
        to_idc::Kind::Pay(pay) => KeyDigest::from_bytes(&pay.key),
        to_idc::Kind::Refund(refund) => KeyDigest::from_bytes(&refund.key),
        to_idc::Kind::Ask(_) | to_idc::Kind::AskPayment(_) => None,
    }
}
