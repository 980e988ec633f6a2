//! The tunnel: links to peers that have proved who they are, kept up, watched, and torn down with a reason.
//!
//! The owner (an agent's tunnel driver) starts it, reads [`TunnelEvent`]s and sends frames through each link's
//! [`LinkSender`]. Below is `transport`, which carries lanes; beside it `identity`, whose changes have live peers judged
//! again. The tunnel knows frames and the control lane; what an order lane's frames mean it never learns.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bridge_protocol::domain::identity::{Role, SpiffeId, SpiffeIdError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::audit_log::AuditLog;
use crate::config::TunnelConfig;
use crate::expiry::Expiry;
use crate::identity::{Identity, IdentityError};
use crate::shutdown::Shutdown;
use crate::telemetry::LogRateLimit;
use crate::telemetry::metrics::Metrics;
use crate::transport::quic::Quic;

mod event;
pub use event::{FeedEvent, LinkId, LinkUp, TunnelEvent};

mod inbox;
pub use inbox::Events;

mod context;
pub use context::Greeting;
use context::{Context, Phase};

mod dial;

mod handshake_limiter;

mod peers;

mod listen;

mod hello;

mod control;

mod live_link;

mod link;

mod end;
pub use end::LinkEnd;

mod lanes;
pub use lanes::{Closed, FeedSender, LinkSender};

mod report;

mod audit;

mod links;
pub use links::LinkStatus;

pub use crate::transport::quic::QuicError;

/// Frames of the feed lanes that their owner has not taken yet; each may be as large as a page.
const FEED_EVENTS: usize = 16;

/// Lines of the log about refusals for one reason, in ten seconds.
const REFUSALS_LOGGED: u32 = 5;

/// Why the tunnel cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The certificate files cannot be used, or are another agent's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The allow-list names no agent.
    #[error("tunnel.allow: {entry:?} {error}")]
    Allow {
        /// The entry.
        entry: String,
        /// What is wrong with it.
        error: SpiffeIdError,
    },
    /// QUIC cannot start.
    #[error(transparent)]
    Quic(#[from] QuicError),
}

/// A tunnel that runs.
#[derive(Debug)]
pub struct Started {
    /// Looks at it and ends it.
    pub handle: TunnelHandle,
    /// Links and what comes on their order lanes.
    pub events: Events,
    /// What comes on their feed lanes. To be taken or dropped by an agent whose greeting does not name the feature.
    pub feed: mpsc::Receiver<FeedEvent>,
}

/// The tunnel's entry.
#[derive(Debug, Clone, Copy)]
pub struct Tunnel;

impl Tunnel {
    /// Reads and checks the certificate files and the allow-list without opening a socket; whose certificate it is.
    pub fn check(config: &TunnelConfig, role: Role) -> Result<SpiffeId, TunnelError> {
        prepare(config, role).map(|(identity, _)| identity.id())
    }

    /// Reads the certificates, binds the listen addresses and begins to dial. Needs a tokio runtime around it. `audit` is
    /// told of every link.
    pub fn start(
        config: &TunnelConfig,
        role: Role,
        state_dir: &Path,
        greeting: watch::Receiver<Greeting>,
        metrics: Arc<Metrics>,
        audit: Option<AuditLog>,
        shutdown: Shutdown,
    ) -> Result<Started, TunnelError> {
        let (identity, allow) = prepare(config, role)?;
        let identity = Arc::new(identity);
        let id = identity.id();
        let quic = Quic::start(config, allow.clone(), identity.subscribe(), state_dir)?;
        let (events, events_received) = inbox::channel();
        let (feed, feed_received) = mpsc::channel(FEED_EVENTS);
        let (phase, phase_seen) = watch::channel(Phase::Running);
        let context = Arc::new(Context {
            transport: Arc::new(quic),
            identity: identity.clone(),
            allow,
            greeting,
            events,
            rooms: inbox::PeerBudgets::default(),
            feed,
            links: Arc::default(),
            phase: phase_seen,
            metrics,
            audit: audit::Auditor::new(audit, config.post_quantum),
            order_lanes: config.order_lanes,
            refusals: LogRateLimit::new(REFUSALS_LOGGED),
            links_per_peer: config.links_per_peer,
            links_from_peer_max: config.links_from_peer_max,
            heartbeat: config.heartbeat,
            silent_after: config.silent_after,
            idle_timeout: config.idle_timeout,
        });
        let listening = context.transport.listening();
        tracing::info!(identity = %id, ?listening, dialling = config.dial.len(), "tunnel started");

        let mut tasks = JoinSet::new();
        if !config.listen.is_empty() {
            tasks.spawn(shutdown.core("accepting links", listen::keep_accepting(context.clone())));
        }
        for target in &config.dial {
            tasks.spawn(shutdown.core("dialling", dial::keep_dialling(context.clone(), target.clone())));
        }
        let (done, finished) = watch::channel(false);
        let handle = TunnelHandle {
            id,
            listening,
            links: context.links.clone(),
            identity,
            phase: phase.clone(),
            finished,
        };
        tokio::spawn(shutdown.clone().core("the tunnel", supervise(context, tasks, phase, shutdown, done)));
        Ok(Started { handle, events: events_received, feed: feed_received })
    }
}

/// All that can be judged before a socket is opened.
fn prepare(config: &TunnelConfig, role: Role) -> Result<(Identity, Arc<[SpiffeId]>), TunnelError> {
    Ok((Identity::load(config, role)?, allow_list(&config.allow)?))
}

fn allow_list(entries: &[String]) -> Result<Arc<[SpiffeId]>, TunnelError> {
    let parse = |entry: &String| {
        let parsed = entry.parse();
        parsed.map_err(|error| TunnelError::Allow { entry: entry.clone(), error })
    };
    entries.iter().map(parse).collect()
}

/// From the start to the orderly end; owns every other task of the tunnel.
async fn supervise(
    context: Arc<Context>,
    mut tasks: JoinSet<()>,
    phase: watch::Sender<Phase>,
    shutdown: Shutdown,
    done: watch::Sender<bool>,
) {
    tokio::select! {
        () = context.identity.keep_current(&context.metrics) => {}
        () = reload(&context.identity, &shutdown) => {}
        _deadline = shutdown.started() => {}
        () = context.reached(Phase::Closed) => {}
    }
    advance(&phase, Phase::Draining);
    tokio::select! {
        () = shutdown.overdue() => tracing::warn!("the time to drain is over, closing the links that are left"),
        () = context.reached(Phase::Closed) => {}
    }
    advance(&phase, Phase::Closed);
    while tasks.join_next().await.is_some() {}
    context.transport.close().await;
    done.send_replace(true);
}

/// Has the certificate files read again whenever an operator wants it so.
async fn reload(identity: &Identity, shutdown: &Shutdown) {
    let mut reloads = shutdown.reloads();
    loop {
        reloads.next().await;
        identity.reload();
    }
}

fn advance(phase: &watch::Sender<Phase>, to: Phase) {
    phase.send_if_modified(|now| {
        let forward = *now < to;
        *now = to.max(*now);
        forward
    });
}

/// What the owner keeps of the tunnel.
#[derive(Debug, Clone)]
pub struct TunnelHandle {
    id: SpiffeId,
    listening: Vec<SocketAddr>,
    links: Arc<links::Links>,
    identity: Arc<Identity>,
    phase: watch::Sender<Phase>,
    finished: watch::Receiver<bool>,
}

impl TunnelHandle {
    /// Who this agent is.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Where peers can dial in, with the ports the system chose where 0 was configured.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// The live links, oldest first.
    pub fn status(&self) -> Vec<LinkStatus> {
        self.links.status()
    }

    /// When certificates and revocation list end.
    pub fn expiries(&self) -> Vec<Expiry> {
        self.identity.expiries()
    }

    /// Why what is in the certificate files now is not in force, as a sentence; `None` if it is.
    pub fn note(&self) -> Option<String> {
        self.identity.note()
    }

    /// Reads the certificate files again now; they are looked at every five seconds anyway.
    pub fn reload_identity(&self) {
        self.identity.reload();
    }

    /// Ends every link at once and waits until the peers have been told. What was sent and not yet answered is lost, so
    /// this comes after the drain. The events go on until the last `Down` and then end.
    pub async fn close(&self) {
        advance(&self.phase, Phase::Closed);
        let mut finished = self.finished.clone();
        let _gone = finished.wait_for(|done| *done).await;
    }
}
