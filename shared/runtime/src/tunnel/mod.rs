//! The tunnel: links to authenticated peers, kept up, watched, and ended with a reason.
//!
//! The owner (an agent's tunnel driver) starts it, reads [`TunnelEvent`]s and sends frames through
//! each link's [`LinkSender`]. `transport` below carries lanes. `identity` beside it makes live
//! peers be verified again when the material changes. The tunnel knows frames and the control lane,
//! but not the meaning of an order lane's frames.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

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
use crate::transport::tls::TlsConfigs;
use crate::transport::transports::Transports;

mod event;
pub use event::{FeedEvent, LinkId, LinkUp, TunnelEvent};

mod inbox;
pub use inbox::Events;

mod context;
pub use context::Greeting;
use context::{Context, Phase};

mod choice;

mod dial;

mod dialled;

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

pub use crate::transport::StartError;

/// Frames of the feed lanes that their owner has not taken yet. Each may be as large as a page.
const FEED_EVENTS: usize = 16;

/// Log lines about refusals for one reason in ten seconds.
const REFUSALS_LOGGED: u32 = 5;

/// Reasons why the tunnel cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The certificate files cannot be used, or belong to another agent.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// An entry of the allow-list names no agent.
    #[error("tunnel.allow: {entry:?} {error}")]
    Allow {
        /// The entry.
        entry: String,
        /// Its fault.
        error: SpiffeIdError,
    },
    /// A transport cannot start.
    #[error(transparent)]
    Transport(#[from] StartError),
}

/// A running tunnel.
#[derive(Debug)]
pub struct Started {
    /// Handle to inspect and end it.
    pub handle: TunnelHandle,
    /// Events of links and their order and payment lanes.
    pub events: Events,
    /// Events of their feed lanes. An agent whose greeting does not name the feature may drop it.
    pub feed: mpsc::Receiver<FeedEvent>,
}

/// Entry point of the tunnel.
#[derive(Debug, Clone, Copy)]
pub struct Tunnel;

impl Tunnel {
    /// Checks the certificate files and the allow-list without opening a socket. Returns all faults
    /// at once, by setting.
    pub fn faults(config: &TunnelConfig, role: Role) -> BTreeMap<&'static str, Vec<String>> {
        let mut faults: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for (setting, error) in Identity::faults(config, role) {
            faults.entry(setting).or_default().push(error.to_string());
        }
        for entry in &config.allow {
            if let Err(error) = entry.parse::<SpiffeId>() {
                faults.entry("tunnel.allow").or_default().push(format!("{entry:?} {error}"));
            }
        }
        faults
    }

    /// Returns why this agent would refuse its own certificate, if it would. This may be right,
    /// because its peers may have another CA, but usually it is a mistake.
    pub fn refusal_of_itself(config: &TunnelConfig, role: Role) -> Option<String> {
        Identity::refusal_of_itself(config, role)
    }

    /// Reads the certificates, binds the listening addresses and begins to dial. Call it within a
    /// tokio runtime. `audit` gets an entry for every link.
    ///
    /// # Errors
    ///
    /// Fails if a file or an entry of the allow-list cannot be used, or if a transport cannot
    /// start.
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
        let post_quantum = config.post_quantum;
        let tls = TlsConfigs { credentials: identity.subscribe(), allow: allow.clone(), post_quantum };
        let transports = Transports::start(config, &tls, state_dir)?;
        let (events, events_received) = inbox::channel();
        let (feed, feed_received) = mpsc::channel(FEED_EVENTS);
        let (phase, phase_seen) = watch::channel(Phase::Running);
        let context = Arc::new(Context {
            transports,
            transport: config.transport,
            identity: identity.clone(),
            allow,
            greeting,
            events,
            rooms: inbox::PeerBudgets::default(),
            feed,
            links: Arc::default(),
            dialled: dialled::DialledAddresses::default(),
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
        let listening = context.transports.listening();
        let (transport, dialling) = (config.transport, config.dial.len());
        tracing::info!(identity = %id, ?transport, ?listening, dialling, "tunnel started");

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
            dialled: context.dialled.clone(),
            identity,
            phase: phase.clone(),
            finished,
        };
        tokio::spawn(shutdown.clone().core("the tunnel", supervise(context, tasks, phase, shutdown, done)));
        Ok(Started { handle, events: events_received, feed: feed_received })
    }
}

/// Checks everything that needs no socket.
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

/// Runs the tunnel from its start to its orderly end. It owns all other tasks.
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
    context.transports.close().await;
    done.send_replace(true);
}

/// Reads the certificate files again when an operator requests it.
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

/// The owner's handle of the tunnel.
#[derive(Debug, Clone)]
pub struct TunnelHandle {
    id: SpiffeId,
    listening: Vec<SocketAddr>,
    links: Arc<links::Links>,
    dialled: dialled::DialledAddresses,
    identity: Arc<Identity>,
    phase: watch::Sender<Phase>,
    finished: watch::Receiver<bool>,
}

impl TunnelHandle {
    /// Returns this agent's identity.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Returns the listening addresses, with the port that the system chose if the configured port
    /// is 0.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// Returns the live links, oldest first.
    pub fn status(&self) -> Vec<LinkStatus> {
        self.links.status()
    }

    /// Returns a sentence about each dialled address that has had no link for some time before
    /// `now`, with the reason.
    pub fn not_linked(&self, now: Instant) -> Vec<String> {
        self.dialled.notes(now)
    }

    /// Returns the expiries of certificates and revocation list.
    pub fn expiries(&self) -> Vec<Expiry> {
        self.identity.expiries()
    }

    /// Returns why the material in the certificate files is not in use, as a sentence; `None` if it
    /// is.
    pub fn note(&self) -> Option<String> {
        self.identity.note()
    }

    /// Reads the certificate files again now. They are checked every five seconds anyway.
    pub fn reload_identity(&self) {
        self.identity.reload();
    }

    /// Ends every link at once and waits until the peers know. Unanswered requests are lost, so
    /// this comes after the drain. The events continue until the last `Down`, and then end.
    pub async fn close(&self) {
        advance(&self.phase, Phase::Closed);
        let mut finished = self.finished.clone();
        let _gone = finished.wait_for(|done| *done).await;
    }
}
