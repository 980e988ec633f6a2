//! What the tunnel tells its owner.

use std::collections::BTreeSet;
use std::sync::Arc;

use bridge_protocol::domain::identity::SpiffeId;
use bridge_protocol::wire::control::{Hello, Obstacle};
pub use bridge_protocol::wire::lane::LinkId;
use bytes::Bytes;

use super::end::LinkEnd;
use super::lanes::{FeedSender, LinkSender};

/// What happens on the tunnel. For each link: `Up`, then anything of the others, then `Down` once and nothing more.
#[derive(Debug)]
pub enum TunnelEvent {
    /// A link is ready.
    Up(LinkUp),
    /// One frame's payload from an order lane.
    Frame {
        /// On which link.
        link: LinkId,
        /// On which of its order lanes.
        lane: u8,
        /// The frame without its length.
        payload: Bytes,
    },
    /// One frame's payload from the payment lane.
    PaymentFrame {
        /// On which link.
        link: LinkId,
        /// The frame without its length.
        payload: Bytes,
    },
    /// The peer accepts another number of unanswered requests from now on.
    Window {
        /// On which link.
        link: LinkId,
        /// That number.
        window: u32,
    },
    /// The peer says what is in its way: once after the link is up, and whenever that changes. One of an earlier release never
    /// does.
    Readiness {
        /// Of which link.
        link: LinkId,
        /// What; nothing if the peer has all that it needs.
        obstacles: BTreeSet<Obstacle>,
    },
    /// The peer has a new sealing-key manifest.
    Manifest {
        /// From which link.
        link: LinkId,
        /// The signed note, unverified.
        note: Bytes,
    },
    /// No heartbeat came for a while: the link should get no new requests.
    Silent {
        /// Which link.
        link: LinkId,
    },
    /// The silent link is heard again.
    Heard {
        /// Which link.
        link: LinkId,
    },
    /// The peer will close the link once everything is answered: it should get no new requests.
    Goodbye {
        /// Which link.
        link: LinkId,
    },
    /// The link has ended.
    Down {
        /// Which link.
        link: LinkId,
        /// Why.
        why: LinkEnd,
    },
}

/// What happens on the feed lanes, on a channel of its own: a bootstrap holds up no order. For each link that has one: `Up`,
/// then frames, then `Down` once and nothing more.
#[derive(Debug)]
pub enum FeedEvent {
    /// A feed lane is ready.
    Up {
        /// Of which link.
        link: LinkId,
        /// Who the peer has proved to be.
        peer: SpiffeId,
        /// The way to send on it.
        sender: FeedSender,
    },
    /// One frame's payload.
    Frame {
        /// From which link.
        link: LinkId,
        /// The frame without its length.
        payload: Bytes,
    },
    /// The link has ended.
    Down {
        /// Which link.
        link: LinkId,
    },
}

/// A link that is ready for use.
#[derive(Debug)]
pub struct LinkUp {
    /// Its id.
    pub link: LinkId,
    /// Who the peer has proved to be.
    pub peer: SpiffeId,
    /// What the peer calls itself.
    pub agent: String,
    /// What this side dialled, as its configuration has it; `None` if the peer dialled.
    pub target: Option<Arc<str>>,
    /// The peer's hello, its window and manifest among it.
    pub hello: Box<Hello>,
    /// The protocol version that both sides speak on it.
    pub version: u32,
    /// How many order lanes it has.
    pub lanes: u8,
    /// Whether it has a payment lane.
    pub payments: bool,
    /// The way to send on it.
    pub sender: LinkSender,
}
