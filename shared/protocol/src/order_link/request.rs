//! One request of the sender: what it asks for, where it is, and what is known of its copies.

use std::time::Duration;

use super::LinkId;
use super::fair_queue::QueuedRequest;
use super::fair_share::BrandIndex;
use super::output::{CallerAnswer, RequestId};
use crate::domain::{KeyDigest, OrderId};
use crate::seal::KeyId;
use crate::wire::order::to_idc;

/// Clear terms of so many bytes cost as much as one small request: eight lines or so.
const TERMS_BYTES_PER_COST: usize = 256;

/// So does so much that is sealed.
const SEALED_BYTES_PER_COST: usize = 1_024;

/// Why a request is not taken; it has had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// As many requests wait as may, and the brand has its share of them.
    #[error("the order queue is full")]
    Full,
    /// A request under the same idempotency key is still waiting for its answer.
    #[error("a request under this idempotency key is in progress")]
    InProgress,
    /// Another request under the same idempotency key is not settled yet.
    #[error("another request under this idempotency key is not settled")]
    KeyReused,
}

/// What a write asks for, as a number that tells two bodies apart without saying anything of either: a hash under a key that
/// nobody but this process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyMark(pub u64);

impl BodyMark {
    /// Of a question, which has no key.
    pub const NONE: Self = Self(0);
}

/// A request that is not settled.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) brand: BrandIndex,
    pub(super) order: OrderId,
    pub(super) kind: to_idc::Kind,
    /// The idempotency key of a write.
    pub(super) key: Option<KeyDigest>,
    /// What it asks for.
    pub(super) body: BodyMark,
    /// What a sealed order is sealed to.
    pub(super) sealed_to: Option<KeyId>,
    /// When the caller is told `Unknown` or `NotSent`; `None` once that has happened.
    pub(super) caller_until: Option<Duration>,
    /// When settling is given up.
    pub(super) settle_until: Duration,
    pub(super) place: RequestState,
    /// How often it was sent.
    pub(super) sent: u32,
    /// For a write: a copy of it, or one that it took over from, was sent, and nobody knows what became of that. For a
    /// question: it came while a write about its order was not settled, so the IDC may have answered before that write
    /// and be heard after it.
    pub(super) doubtful: bool,
    /// For a cancellation or a payment: it came while its order was being placed from here, so an agent that does not know the
    /// order may have said so before that was committed.
    pub(super) early: bool,
    /// The links whose agents do not know its order, by what they said to this copy and to those before it.
    pub(super) unknown_on: Vec<LinkId>,
    /// The links whose agents could not commit it, since it was last sent from the queue.
    pub(super) down_on: Vec<LinkId>,
    /// Its entry in `timers`.
    pub(super) timer: Duration,
}

/// Where a request is.
#[derive(Debug)]
pub(super) enum RequestState {
    /// In the queue.
    Queued,
    /// On a link, unanswered.
    InFlight {
        link: LinkId,
        /// When it is sent again.
        resend_at: Duration,
        /// Whether it went without its session's encapsulation.
        bare: bool,
    },
    /// With its caller, who seals it again; an answer that comes meanwhile is told when it is back.
    Sealing(Option<Box<CallerAnswer>>),
    /// On no link: it cancels an order that this sender is placing, and that no agent was found to know. It goes out again once
    /// that has ended.
    Behind,
}

impl Request {
    /// Itself in the queue. It may leave a full one if it was never sent, nothing is doubtful about it, and its caller is there
    /// to be told.
    pub(super) fn queued(&self, id: RequestId) -> QueuedRequest {
        let may_leave = self.sent == 0 && !self.doubtful && self.caller_until.is_some();
        QueuedRequest { id, cost: cost(&self.kind), may_leave }
    }

    /// Whether it places its order.
    pub(super) fn places(&self) -> bool {
        matches!(self.kind, to_idc::Kind::Place(_))
    }

    /// Whether a copy of it is under way.
    pub(super) fn is_out(&self) -> bool {
        matches!(self.place, RequestState::InFlight { .. })
    }

    /// Whether it is on that link, without its session's encapsulation.
    pub(super) fn is_bare_on(&self, link: LinkId) -> bool {
        matches!(self.place, RequestState::InFlight { link: on, bare: true, .. } if on == link)
    }
}

pub(super) fn request_is_given_up(request: Option<&Request>, now: Duration) -> bool {
    request.is_none_or(|request| request.settle_until <= now)
}

/// What a request takes of its brand's share. Each line of an order is work for the database, and is about 30 bytes of its clear terms;
/// what is sealed is only carried and stored.
fn cost(kind: &to_idc::Kind) -> usize {
    match kind {
        to_idc::Kind::Place(envelope) => {
            1 + envelope.terms.len() / TERMS_BYTES_PER_COST
                + envelope.ciphertext.len() / SEALED_BYTES_PER_COST
        }
        _ => 1,
    }
}

/// What a sealed order is sealed to.
pub(super) fn sealed_to(kind: &to_idc::Kind) -> Option<KeyId> {
    match kind {
        to_idc::Kind::Place(envelope) => KeyId::from_bytes(&envelope.key_id),
        _ => None,
    }
}

/// The idempotency key of a write; questions have none.
pub(super) fn write_key(kind: &to_idc::Kind) -> Option<KeyDigest> {
    match kind {
        to_idc::Kind::Place(envelope) => KeyDigest::from_bytes(&envelope.key),
        to_idc::Kind::Cancel(cancel) => KeyDigest::from_bytes(&cancel.key),
        to_idc::Kind::Pay(pay) => KeyDigest::from_bytes(&pay.key),
        to_idc::Kind::Refund(refund) => KeyDigest::from_bytes(&refund.key),
        to_idc::Kind::Ask(_) | to_idc::Kind::AskPayment(_) => None,
    }
}
