//! State that every task of the tunnel shares, and this agent's greeting for each link.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::domain::identity::SpiffeId;
use bridge_protocol::wire::control::{Grants, Obstacle};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::audit::Auditor;
use super::dialled::DialledAddresses;
use super::event::FeedEvent;
use super::inbox::{EventSender, PeerBudgets};
use super::links::Links;
use crate::config::TransportChoice;
use crate::identity::Identity;
use crate::telemetry::LogRateLimit;
use crate::telemetry::metrics::Metrics;
use crate::transport::transports::Transports;

/// This agent's greeting for every link. Live links are told when it changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Greeting {
    /// The agent's configured name, for people.
    pub agent: String,
    /// Unanswered requests that this agent accepts on a link; 0 from a cloud agent.
    pub window: u32,
    /// Unanswered requests on the payment lane.
    pub payment_window: u32,
    /// The signed sealing-key manifest; empty from a cloud agent.
    pub manifest: Bytes,
    /// Optional features beyond the protocol version, by name.
    pub features: Vec<String>,
    /// Obstacles of this agent; `None` for an agent that does not report them, such as a cloud
    /// agent.
    pub readiness: Option<BTreeSet<Obstacle>>,
    /// Limits for each cloud agent; `None` for an agent that grants nothing, such as a cloud agent.
    pub grants: Option<Arc<Grants>>,
}

/// Phase of the tunnel. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Links come and go.
    Running,
    /// No new links are made; the peers got a goodbye.
    Draining,
    /// All links end now.
    Closed,
}

/// State that every task of the tunnel shares.
pub(super) struct Context {
    pub(super) transports: Transports,
    pub(super) transport: TransportChoice,
    pub(super) identity: Arc<Identity>,
    pub(super) allow: Arc<[SpiffeId]>,
    pub(super) greeting: watch::Receiver<Greeting>,
    pub(super) events: EventSender,
    pub(super) rooms: PeerBudgets,
    pub(super) feed: mpsc::Sender<FeedEvent>,
    pub(super) links: Arc<Links>,
    pub(super) dialled: DialledAddresses,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) audit: Auditor,
    /// Limits the log lines about refusals.
    pub(super) refusals: LogRateLimit,
    pub(super) order_lanes: u8,
    pub(super) links_per_peer: u8,
    pub(super) links_from_peer_max: usize,
    pub(super) heartbeat: Duration,
    pub(super) silent_after: Duration,
    /// Time after which a lane that takes no data counts as dead, like a link without packets.
    pub(super) idle_timeout: Duration,
}

impl Context {
    /// Waits until the tunnel has at least reached this phase.
    pub(super) async fn reached(&self, phase: Phase) {
        // An error means that the handle and the supervisor are gone, which is the end too.
        let mut seen = self.phase.clone();
        let _gone = seen.wait_for(|now| *now >= phase).await;
    }
}
