//! The process: waits for the ledger, starts the tunnel, the orders' driver and the catalogue's
//! sequencer and publication, and stops them in order.
//!
//! At the end it says goodbye to the peers, commits and answers every received request, and then
//! closes the tunnel.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bridge_protocol::domain::identity::Role;
use bridge_protocol::feed::publisher;
use bridge_protocol::order_link::receiver::Receiver;
use bridge_protocol::seal::manifest::{Manifest, ManifestError};
use bridge_protocol::wire::control::BrandGrant;
use bridge_protocol::wire::{self, feed};
use bridge_runtime::address;
use bridge_runtime::admin::{self, Report};
use bridge_runtime::audit_log::{self, AuditLog, CommandSocket, LastLogged};
use bridge_runtime::clock;
use bridge_runtime::config::Secret;
use bridge_runtime::expiry::Expiry;
use bridge_runtime::open_files;
use bridge_runtime::owner;
use bridge_runtime::shutdown::{self, ServiceState, Shutdown};
use bridge_runtime::telemetry::shared::Queue;
use bridge_runtime::tunnel::{Greeting, Started, Tunnel, TunnelHandle};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::catalogue::publish::FeedDriver;
use crate::catalogue::{Catalogue, sequencer};
use crate::config::{CatalogueConfig, IdcConfig, LedgerConfig};
use crate::metrics::Metrics;
use crate::orders::core::{OrderCore, OrderLimits};
use crate::orders::denied;
use crate::orders::driver::{DriverState, OrderDriver, look_ups};
use crate::orders::store::{Ledger, NotReady};
use crate::payments::config::PaymentsConfig;
use crate::payments::driver::{PaymentDriver, Service};
use crate::payments::service::Payments;
use crate::payments::webhook;
use crate::readiness::{self, Readiness};
use crate::served_before::ServedBefore;
use crate::vault::current::CurrentKeys;
use crate::vault::keyring::Keyring;

/// Time limit for the shutdown.
const DRAIN_FOR: Duration = Duration::from_secs(15);

/// Time to wait for requests that crossed the goodbye. Longer than a round trip on any line.
const LINGER: Duration = Duration::from_millis(500);

/// Rows of the catalogue in one read: a few pages of the feed, with less memory than one large row.
const ROWS_READ_AT_ONCE: usize = 512;

/// Most pages on their way to a replica: 4 MiB, more than any line holds.
const PAGES_UNDER_WAY: u32 = 16;

/// Interval of checks while the ledger is not ready.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Serves until a signal ends the process.
///
/// # Errors
///
/// Fails if the agent cannot start, or if one of its tasks ends with an error.
pub async fn serve(config: IdcConfig) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    shutdown.on_signals(DRAIN_FOR).context("listen for signals")?;
    shutdown.through(Box::pin(from_start_to_end(config, shutdown.clone()))).await
}

async fn from_start_to_end(config: IdcConfig, shutdown: Shutdown) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let few_files = open_files::note(open_files::raise(), Ledger::files_max(config.ledger.connections));
    if let Some(note) = &few_files {
        tracing::warn!(note, "connections to the database, or files of the audit log, may fail to open");
    }
    let state_dir = &config.agent.state_dir;
    owner::check(state_dir)?;
    std::fs::create_dir_all(state_dir)
        .with_context(|| format!("create agent.state_dir {}", state_dir.display()))?;
    let keys = CurrentKeys::load(&config.keys.dir)?;
    let (manifest, told) = manifest(&keys.now())?;
    let (audit, audit_end) = AuditLog::open(&config.audit, metrics.runtime.clone())?;
    tokio::spawn(shutdown.core("the audit log", audit.ended()));
    let command_socket = CommandSocket::open(&config.audit, &audit);
    if let Err(error) = &command_socket {
        tracing::warn!(%error, "open the socket beside the audit log's key: `personal show` is refused while this agent runs");
    }
    audit_log::started(&audit, &config.agent.name, env!("CARGO_PKG_VERSION"));
    let last = LastLogged::beside(&config.audit.key_file)?;
    last.configuration(&audit, &config.effective);
    last.keys(&audit, &manifest, told.keys.iter().map(|key| key.id.0.as_slice()));

    let (state, state_seen) = watch::channel(Phase::WaitingForLedger("it has not been looked at".to_owned()));
    let (load, load_seen) = watch::channel(DriverState::default());
    let (keys_told, other_keys) = watch::channel(None);
    let admin_listener = TcpListener::bind(config.admin.listen)
        .await
        .with_context(|| format!("listen on admin.listen {}", config.admin.listen))?;
    let admin_address = admin_listener.local_addr()?;
    let report = Status {
        name: config.agent.name.clone(),
        keys: keys.clone(),
        state: state_seen,
        load: load_seen,
        audit: audit.clone(),
        unprotected: config.ledger.unprotected,
        webhooks: config.payments.webhook_listen,
        few_files,
        other_keys,
    };
    let admin = admin::serve(admin_listener, metrics.runtime.clone(), Arc::new(report), shutdown.clone());
    let admin = tokio::spawn(shutdown.core("the admin listener", admin));
    // Ready for systemd means started. `/readyz` reports any obstacle from here on.
    shutdown::tell_systemd(ServiceState::Ready);

    if let Some(why) = config.ledger.unprotected {
        tracing::warn!(
            why,
            "ledger.allow_unprotected: an attacker between this host and the database can read and change orders"
        );
    }
    let served = ServedBefore::in_dir(state_dir);
    let first = keys.now();
    let ledger = match ledger_ready(&config.ledger, &first, &served, &state, &shutdown).await {
        Ok(Some(ledger)) => Arc::new(ledger),
        ended => {
            // Close the audit log in order, after a signal and after an error.
            shutdown.start(Duration::ZERO);
            audit_log::stopped(&audit, audit_end).await;
            return ended.map(drop);
        }
    };
    served.note().with_context(|| format!("write to agent.state_dir {}", state_dir.display()))?;

    let limits = OrderLimits {
        window_max: config.orders.window_max,
        committers: if ledger.has_one_writer() { 1 } else { config.orders.committers },
        batch_max: config.orders.batch_max,
        batch_lines_max: config.orders.batch_lines_max,
        lines_max: config.orders.lines_max,
        look_ups_at_once: look_ups::AT_ONCE,
    };
    metrics.set_queue_limit(Queue::InFlight, limits.window_max);
    metrics.set_queue_limit(Queue::Unopened, limits.window_max);
    metrics.set_queue_limit(Queue::Commit, limits.window_max);
    let mut features = vec![feed::FEATURE.to_owned(), wire::control::CREDITS.to_owned()];
    let payments = PaymentTasks::start(&config.payments, &ledger, &audit, &metrics, &shutdown).await?;
    if payments.service.is_some() {
        features.push(wire::payment::FEATURE.to_owned());
    }
    let greeting = Greeting {
        agent: config.agent.name.clone(),
        window: window_of_a_link(limits.window_max),
        payment_window: window_of_a_link(config.payments.window_max),
        manifest,
        features,
        // No obstacle is reported before the first check.
        readiness: None,
        grants: None,
    };
    let (greetings, greeting) = watch::channel(greeting);
    let (told, granting) = (greetings.clone(), greetings.clone());
    let Started { handle: tunnel, events, feed } = Tunnel::start(
        &config.tunnel,
        Role::Idc,
        state_dir,
        greeting,
        metrics.runtime.clone(),
        Some(audit.clone()),
        shutdown.clone(),
    )?;
    let listening = tunnel.listening().to_vec();
    let catalogue = Catalogue::of(&ledger);
    let (heads, head_seen) = watch::channel(None);
    let head_told = head_seen.clone();
    let (failing, failing_seen) = watch::channel(false);
    state.send_replace(Phase::Serving(tunnel.clone(), head_seen.clone(), failing_seen));
    let sequencer = sequencer::run(catalogue.clone(), log_limits(&config.catalogue), heads, shutdown.clone());
    tokio::spawn(shutdown.core("the catalogue's sequencer", sequencer));
    let publishing = publishing(catalogue, &config.catalogue, metrics.clone());
    let publishing =
        tokio::spawn(shutdown.core("the catalogue's publication", publishing.run(feed, head_seen)));
    let (mut idle, load_told) = (load.subscribe(), load.subscribe());
    let service = payments.service.clone();
    let (payment_driver, payment_ends) =
        PaymentDriver::new(config.payments.window_max, keys.now(), service, metrics.clone(), &shutdown);
    let keys_seen = keys.subscribe();
    let weights = config.weights.into_iter().collect();
    let agent = OrderCore::with_weights(limits, keys.now(), &weights);
    metrics.set_queue_limit(Queue::Held, agent.held_max());
    metrics.set_queue_limit(Queue::Questions, agent.questions_max());
    let other_keys = readiness::look_for_keys(ledger.clone(), keys.subscribe(), keys_told, shutdown.clone());
    tokio::spawn(shutdown.core("the search for other agents' keys", other_keys));
    let (keys_of, kept_metrics) = (ledger.clone(), metrics.runtime.clone());
    let (driver, results) =
        OrderDriver::new(agent, ledger, audit.clone(), metrics, load, payment_driver, keys_seen, &shutdown);
    let agent = driver.inputs();
    let readiness = Readiness { load: load_told, head: head_told, audit: audit.clone(), agent, failing };
    let readiness = readiness.keep_reporting(told, shutdown.clone());
    tokio::spawn(shutdown.core("what is told of this agent's readiness", readiness));
    let driver =
        tokio::spawn(shutdown.core("the orders' shell", driver.run(events, results, payment_ends, granting)));
    let log = audit.clone();
    let check = async move |keys: &Keyring| keys_of.check_keys(&keys.checks(), clock::now()).await;
    let taken = move |keys: &Keyring| take_keys(keys, &greetings, &last, &log);
    let kept = keys.keep(shutdown.clone(), kept_metrics, check, taken);
    tokio::spawn(shutdown.core("the watch over the keys' folder", kept));
    tracing::info!(?listening, admin = %admin_address, "bridge-idc serves");

    shutdown.started().await;
    tokio::select! {
        () = quiet(&mut idle) => {}
        () = shutdown.overdue() => {}
    }
    tunnel.close().await;
    driver.await?;
    publishing.await?;
    payments.end().await?;
    audit_log::stopped(&audit, audit_end).await;
    admin.abort();
    tracing::info!("bridge-idc has ended in order");
    Ok(())
}

/// Returns the signed manifest of these keys for peers.
fn manifest(keys: &Keyring) -> Result<(Bytes, Manifest), ManifestError> {
    let told = keys.manifest().told_at(clock::now());
    Ok((told.sign(keys.signer())?, told))
}

/// Sends new keys to live links. The agent itself has them already.
fn take_keys(keys: &Keyring, greetings: &watch::Sender<Greeting>, last: &LastLogged, log: &AuditLog) {
    match manifest(keys) {
        Ok((manifest, told)) => {
            tracing::info!(
                sealing_keys = told.keys.len(),
                "the keys' folder has changed, and its keys are in use"
            );
            last.keys(log, &manifest, told.keys.iter().map(|key| key.id.0.as_slice()));
            greetings.send_modify(|greeting| greeting.manifest = manifest);
        }
        Err(error) => {
            tracing::error!(%error, "the manifest of new sealing keys cannot be signed: peers do not get them")
        }
    }
}

/// The payment service, and its tasks: queries about payments in doubt, and webhooks from the
/// gateway.
struct PaymentTasks {
    service: Option<Service>,
    tasks: Vec<JoinHandle<()>>,
}

impl PaymentTasks {
    async fn start(
        config: &PaymentsConfig,
        ledger: &Arc<Ledger>,
        audit: &AuditLog,
        metrics: &Arc<Metrics>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let Some(gateway) = config.adapter().context("payments.secret_key_file")? else {
            return Ok(Self { service: None, tasks: Vec::new() });
        };
        let (limits, metrics) = (config.limits, metrics.clone());
        let service = Arc::new(Payments::new(ledger.clone(), gateway, limits, metrics, audit.clone()));
        let reconciler = service.clone().reconcile(shutdown.clone());
        let mut tasks = vec![tokio::spawn(shutdown.core("the payments' reconciler", reconciler))];
        if let Some(address) = config.webhook_listen {
            let listener = address::listen(address)
                .and_then(TcpListener::from_std)
                .with_context(|| format!("listen on payments.webhook_listen {address}"))?;
            tracing::info!(webhooks = %listener.local_addr()?, "listening for the gateway's webhooks");
            let webhooks = webhook::listen(listener, service.clone(), shutdown.clone());
            tasks.push(tokio::spawn(shutdown.core("the listener for webhooks", webhooks)));
        }
        Ok(Self { service: Some(service), tasks })
    }

    async fn end(self) -> anyhow::Result<()> {
        for task in self.tasks {
            task.await?;
        }
        Ok(())
    }
}

fn window_of_a_link(window_max: usize) -> u32 {
    u32::try_from(Receiver::window_of_a_link(window_max)).unwrap_or(u32::MAX)
}

fn log_limits(config: &CatalogueConfig) -> sequencer::ChangeLogLimits {
    sequencer::ChangeLogLimits {
        changes_kept: config.changes_kept,
        changes_kept_for: config.changes_kept_for,
    }
}

fn publishing(catalogue: Catalogue, config: &CatalogueConfig, metrics: Arc<Metrics>) -> FeedDriver {
    let limits = publisher::PublisherLimits {
        rows_max: ROWS_READ_AT_ONCE,
        window_max: PAGES_UNDER_WAY,
        fresh_every: config.heartbeat,
    };
    FeedDriver::new(catalogue, limits, config.reads_max, metrics)
}

/// Waits until every request is answered and no new one has come for a while. So requests that
/// crossed the goodbye are committed and answered as well.
async fn quiet(load: &mut watch::Receiver<DriverState>) {
    loop {
        // Without the driver nothing is left to wait for. The next call of `changed` then fails and
        // ends the wait.
        drop(load.wait_for(|load| load.under_way == 0).await);
        if !matches!(timeout(LINGER, load.changed()).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// Opens the ledger of the configuration.
///
/// # Errors
///
/// Fails if the URL or the password cannot be used, or if an SQLite file cannot be opened.
pub async fn open_ledger(config: &LedgerConfig) -> anyhow::Result<Ledger> {
    let password: Option<&Secret> = config.password.as_ref();
    Ledger::connect(&config.url, password, config.connections).await.context("open the ledger")
}

/// Opens the ledger and waits until it can take orders. `None` if the agent ends before that. Fails
/// if waiting cannot help.
async fn ledger_ready(
    config: &LedgerConfig,
    keys: &Keyring,
    served: &ServedBefore,
    state: &watch::Sender<Phase>,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<Ledger>> {
    let there = async || Ok(served.check_file(&config.url)?);
    if wait_for(there, state, shutdown).await?.is_none() {
        return Ok(None);
    }
    let ledger = open_ledger(config).await?;
    // Before the first connection, which stays open.
    ledger.notifies_sequencer();
    let ready =
        wait_for(async || prepare(&ledger, keys, config.migrate, served).await, state, shutdown).await?;
    Ok(ready.map(|()| ledger))
}

/// Repeats an attempt until it succeeds. `None` if the agent ends before that.
async fn wait_for(
    attempt: impl AsyncFn() -> anyhow::Result<()>,
    state: &watch::Sender<Phase>,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<()>> {
    let mut said = String::new();
    loop {
        let obstacle = match attempt().await {
            Ok(()) => return Ok(Some(())),
            Err(error)
                if matches!(error.downcast_ref(), Some(NotReady::Pooled(_) | NotReady::OtherKeys(_))) =>
            {
                return Err(error);
            }
            Err(error) => format!("{error:#}"),
        };
        if obstacle != said {
            tracing::warn!(obstacle, "the ledger is not ready, waiting for it");
            said.clone_from(&obstacle);
            state.send_replace(Phase::WaitingForLedger(obstacle));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN_AFTER) => {}
            _deadline = shutdown.started() => return Ok(None),
        }
    }
}

async fn prepare(
    ledger: &Ledger,
    keys: &Keyring,
    migrate: bool,
    served: &ServedBefore,
) -> anyhow::Result<()> {
    ledger.connections().await?;
    served.check_tables(ledger).await?;
    if migrate {
        for applied in ledger.migrate().await? {
            tracing::info!(?applied, "migrated the ledger");
        }
    }
    ledger.ready().await?;
    ledger.check_keys(&keys.checks(), clock::now()).await?;
    Ok(())
}

/// The phase of the agent.
enum Phase {
    /// The tunnel is not up, because the agent takes no order that it cannot commit.
    WaitingForLedger(String),
    /// The tunnel is up. The first receiver has the position of the catalogue's log, the second is
    /// true if the database fails now or repeatedly.
    Serving(TunnelHandle, watch::Receiver<Option<sequencer::Head>>, watch::Receiver<bool>),
}

impl Phase {
    /// True if the database fails, even if an empty batch has succeeded meanwhile.
    fn is_failing(&self) -> bool {
        matches!(self, Self::Serving(_, _, failing) if *failing.borrow())
    }
}

/// The state that the admin listener reports.
struct Status {
    name: String,
    keys: CurrentKeys,
    state: watch::Receiver<Phase>,
    load: watch::Receiver<DriverState>,
    audit: AuditLog,
    /// Reason why data on the way to the database is not protected, if the configuration accepts
    /// that risk.
    unprotected: Option<&'static str>,
    /// Address of the listener for webhooks.
    webhooks: Option<SocketAddr>,
    /// Note that this process may open fewer files than it needs, if so.
    few_files: Option<String>,
    /// Note that another agent has keys that this one lacks, if so.
    other_keys: watch::Receiver<Option<String>>,
}

impl Report for Status {
    fn obstacles(&self) -> Vec<String> {
        let mut obstacles = Vec::new();
        if let Phase::WaitingForLedger(obstacle) = &*self.state.borrow() {
            obstacles.push(format!("the ledger is not ready: {obstacle}"));
        }
        if self.load.borrow().doubtful {
            obstacles.push("the ledger does not tell how its last batch ended; it is tried again".to_owned());
        } else if self.load.borrow().away || self.state.borrow().is_failing() {
            obstacles.push("the ledger's database does not work; it is tried again".to_owned());
        }
        obstacles.extend(self.audit.obstacle());
        if let Phase::Serving(tunnel, ..) = &*self.state.borrow() {
            obstacles.extend(address::obstacles("tunnel.listen", tunnel.listening()));
        }
        obstacles.extend(address::obstacles("payments.webhook_listen", self.webhooks.as_slice()));
        let keys = self.keys.now().manifest().keys;
        if keys.iter().all(|key| key.validity.not_before > clock::now()) {
            obstacles
                .push("no sealing key is valid yet: compare this host's clock with the others'".to_owned());
        }
        obstacles
    }

    fn notes(&self) -> Vec<String> {
        let (tunnel_notes, catalogue) = match &*self.state.borrow() {
            Phase::WaitingForLedger(_) => (Vec::new(), None),
            Phase::Serving(tunnel, head, _) => {
                let notes = tunnel.note().into_iter().chain(tunnel.not_linked(Instant::now()));
                (notes.collect(), readiness::catalogue_note(*head.borrow()))
            }
        };
        let denied = denied::note(&self.load.borrow().denied, clock::now());
        let notes = tunnel_notes.into_iter().chain(self.keys.note()).chain(denied).chain(catalogue);
        let notes = notes.chain(self.few_files.clone()).chain(self.other_keys.borrow().clone());
        notes.chain(self.audit.notes()).collect()
    }

    fn expiries(&self) -> Vec<Expiry> {
        let mut expiries = match &*self.state.borrow() {
            Phase::WaitingForLedger(_) => Vec::new(),
            Phase::Serving(tunnel, ..) => tunnel.expiries(),
        };
        expiries.extend(Expiry::of_sealing_keys(&self.keys.now().manifest().keys));
        expiries
    }

    fn status(&self) -> Value {
        let (requests_under_way, limits) = (self.load.borrow().under_way, self.load.borrow().limits.clone());
        let limit = |grant: &BrandGrant| {
            let BrandGrant { brand, outstanding, per_second } = grant;
            json!({ "brand": brand, "outstanding": outstanding, "per_second": per_second })
        };
        let (identity, links, catalogue) = match &*self.state.borrow() {
            Phase::WaitingForLedger(_) => (Value::Null, json!([]), Value::Null),
            Phase::Serving(tunnel, head, _) => {
                let head = head.borrow().map(|head| {
                    json!({"position": head.position.seq, "age_seconds": head.swept.elapsed().as_secs()})
                });
                (json!(tunnel.id().to_string()), json!(tunnel.status()), json!(head))
            }
        };
        json!({
            "agent": self.name,
            "role": "idc",
            "build": env!("CARGO_PKG_VERSION"),
            "identity": identity,
            "ledger_unprotected": self.unprotected,
            "requests_under_way": requests_under_way,
            "limits_of_a_cloud_agent": limits.iter().map(limit).collect::<Value>(),
            "sealing_keys": self.keys.now().manifest().told_at(clock::now()).keys.len(),
            "catalogue": catalogue,
            "audit": self.audit.status(),
            "links": links,
        })
    }
}
