//! Events of the tunnel for its owner.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::domain::identity::SpiffeId;
use bridge_protocol::wire::control::{Grants, Hello, Obstacle};
pub use bridge_protocol::wire::lane::LinkId;
use bytes::Bytes;

use super::end::LinkEnd;
use super::lanes::{FeedSender, LinkSender};

/// Event of the tunnel. Each link has one `Up`, then any of the others, then one `Down` as the
/// last.
#[derive(Debug)]
pub enum TunnelEvent {
    /// A link is ready.
    Up(LinkUp),
    /// One frame's payload from an order lane.
    Frame {
        /// The link.
        link: LinkId,
        /// Index among its order lanes.
        lane: u8,
        /// The frame without its length.
        payload: Bytes,
    },
    /// One frame's payload from the payment lane.
    PaymentFrame {
        /// The link.
        link: LinkId,
        /// The frame without its length.
        payload: Bytes,
    },
    /// The peer accepts a new number of unanswered requests.
    Window {
        /// The link.
        link: LinkId,
        /// The number.
        window: u32,
    },
    /// The peer's obstacles: sent once after the link is up, and after each change. A peer of an
    /// earlier release never sends them.
    Readiness {
        /// The link.
        link: LinkId,
        /// The obstacles; empty if there are none.
        obstacles: BTreeSet<Obstacle>,
    },
    /// New limits from an IDC agent.
    Grants {
        /// The link.
        link: LinkId,
        /// The limits, as they came.
        grants: Grants,
    },
    /// The peer has a new sealing-key manifest.
    Manifest {
        /// The link.
        link: LinkId,
        /// The signed note, unverified.
        note: Bytes,
    },
    /// Heartbeats are missing. The link should get no new requests.
    Silent {
        /// The link.
        link: LinkId,
    },
    /// The silent link is heard again.
    Heard {
        /// The link.
        link: LinkId,
    },
    /// The peer will close the link after all requests are answered. It should get no new requests.
    Goodbye {
        /// The link.
        link: LinkId,
    },
    /// The link has ended.
    Down {
        /// The link.
        link: LinkId,
        /// The reason.
        why: LinkEnd,
    },
}

/// Event of the feed lanes. It has a channel of its own, so that a bootstrap delays no order. Each
/// link with a feed lane has one `Up`, then frames, then one `Down` as the last.
#[derive(Debug)]
pub enum FeedEvent {
    /// A feed lane is ready.
    Up {
        /// The link.
        link: LinkId,
        /// The peer's verified identity.
        peer: SpiffeId,
        /// Sends frames on the lane.
        sender: FeedSender,
    },
    /// One frame's payload.
    Frame {
        /// The link.
        link: LinkId,
        /// The frame without its length.
        payload: Bytes,
    },
    /// The link has ended.
    Down {
        /// The link.
        link: LinkId,
    },
}

/// A link that is ready for use.
#[derive(Debug)]
pub struct LinkUp {
    /// Its id.
    pub link: LinkId,
    /// The peer's verified identity.
    pub peer: SpiffeId,
    /// The peer's name for people.
    pub agent: String,
    /// Target that this side dialled, as configured; `None` if the peer dialled.
    pub target: Option<Arc<str>>,
    /// The peer's hello, with its window and manifest.
    pub hello: Box<Hello>,
    /// The agreed protocol version.
    pub version: u32,
    /// Number of its order lanes.
    pub lanes: u8,
    /// Set if it has a payment lane.
    pub payments: bool,
    /// Round trip of the line when the link came up.
    pub round_trip: Duration,
    /// Sends frames on the link.
    pub sender: LinkSender,
}
