//! The process: starts the replica, the tunnel, the order link, the storefront and the admin
//! listener, and ends them in order.
//!
//! At the end no new connection is accepted, pending requests are answered, and then the tunnel is
//! closed. Requests that are still unknown can be asked about, or sent again under their keys, at
//! the agent that comes next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bridge_protocol::domain::Brand;
use bridge_protocol::domain::identity::Role;
use bridge_protocol::feed::subscriber::{self, Subscriber};
use bridge_protocol::note::NoteVerifier;
use bridge_protocol::order_link::fair_share::BrandIndex;
use bridge_protocol::order_link::sender::SenderLimits;
use bridge_protocol::wire::{control, feed, payment};
use bridge_runtime::address;
use bridge_runtime::admin::{self, Report};
use bridge_runtime::audit_log::{self, AuditLog, LastLogged};
use bridge_runtime::clock;
use bridge_runtime::config::TunnelConfig;
use bridge_runtime::expiry::Expiry;
use bridge_runtime::open_files;
use bridge_runtime::owner;
use bridge_runtime::shutdown::{self, ServiceState, Shutdown};
use bridge_runtime::tunnel::{FeedEvent, Greeting, Started, Tunnel, TunnelHandle};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::config::{BrandConfig, CloudConfig, StorefrontConfig};
use crate::currencies::{self, Currencies};
use crate::data_centre::{DataCentre, Moment};
use crate::metrics::Metrics;
use crate::order_link::{self, CreditReport, KeysLog, KeysWatch, OrderLink};
use crate::replica::compress::Compressor;
use crate::replica::follow::{Follower, ReplicaState, Snapshots};
use crate::replica::replica_rows::ReplicaRows;
use crate::replica::snapshot;
use crate::replica::update::{Broadcast, Freshness, Update};
use crate::storefront::{self, Shop, Storefront};

/// Longest time for pending requests at the end.
const DRAIN_FOR: Duration = Duration::from_secs(15);

/// Time without an answer after which a request is sent again.
const RESEND_AFTER: Duration = Duration::from_secs(5);

/// Most unacknowledged pages of the feed: enough for a line of 50 Mbit/s and 100 ms, and little
/// memory.
const FEED_WINDOW: u32 = 8;

/// Five heartbeats of a publisher. After this silence another one is followed.
const FEED_SILENT_AFTER: Duration = Duration::from_secs(5);

/// Serves until a signal ends it.
///
/// # Errors
///
/// Fails if the agent cannot start or does not end in order.
pub async fn serve(config: CloudConfig) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    shutdown.on_signals(DRAIN_FOR).context("listen for signals")?;
    shutdown.through(Box::pin(from_start_to_end(config, shutdown.clone()))).await
}

async fn from_start_to_end(config: CloudConfig, shutdown: Shutdown) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let few_files = few_files(open_files::raise(), &config.storefront);
    if let Some(note) = &few_files {
        tracing::warn!(note, "fewer connections are taken than the configuration asks for");
    }
    owner::check(&config.agent.state_dir)?;
    std::fs::create_dir_all(&config.agent.state_dir)
        .with_context(|| format!("create agent.state_dir {}", config.agent.state_dir.display()))?;

    let (audit, audit_end) = AuditLog::open(&config.audit, metrics.runtime.clone())?;
    tokio::spawn(shutdown.core("the audit log", audit.ended()));
    audit_log::started(&audit, &config.agent.name, env!("CARGO_PKG_VERSION"));
    let last = LastLogged::beside(&config.audit.key_file)?;
    last.configuration(&audit, &config.effective);

    let features = [feed::FEATURE, payment::FEATURE, control::CREDITS].map(str::to_owned).to_vec();
    let (_greeting, greeting) =
        watch::channel(Greeting { agent: config.agent.name.clone(), features, ..Greeting::default() });
    let Started { handle: tunnel, events, feed } = Tunnel::start(
        &config.tunnel,
        Role::Cloud,
        &config.agent.state_dir,
        greeting,
        metrics.runtime.clone(),
        Some(audit.clone()),
        shutdown.clone(),
    )?;

    let pinned = pinned_keys(&config.sealing.verifier_keys)?;
    let keys = KeysLog { log: audit.clone(), last };
    // The index of a brand is its position among all brands, both here and in `shop`.
    let brands: Vec<(Brand, usize)> =
        config.brands.iter().map(|(brand, config)| (brand.clone(), config.weight)).collect();
    let (reached, owner) = order_link::start(
        limits(&config),
        &brands,
        pinned.clone(),
        keys,
        events,
        expected(&config.tunnel),
        metrics.clone(),
    );
    let order_link::Started { orders: link, payments, sealing, data_centre } = reached;
    let owner = tokio::spawn(shutdown.core("the order link's owner", owner));

    let admin_listener = TcpListener::bind(config.admin.listen)
        .await
        .with_context(|| format!("listen on admin.listen {}", config.admin.listen))?;
    let admin_address = admin_listener.local_addr()?;
    let (standing, standing_seen) = watch::channel(ReplicaState::default());
    let (broadcast, inboxes) = Broadcast::to(storefront::workers(&config.storefront));
    let replica = Replica::restore(&config)?;
    let listen = config.storefront.listen;
    let connections_max = storefront::connections_in_force(&config.storefront);
    let currencies = currencies_of(&config.brands);
    let storefront = Storefront {
        max_age: config.catalogue.max_age,
        min_seq_wait: config.catalogue.min_seq_wait,
        brands: config.brands.into_iter().enumerate().map(shop).collect(),
        config: config.storefront,
        link: link.clone(),
        audit: audit.clone(),
        payments: payments.clone(),
        sealing: sealing.clone(),
        pinned,
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
    };
    let (address, threads) = storefront::start(Arc::new(storefront), inboxes)
        .with_context(|| format!("listen on storefront.listen {listen}"))?;
    tracing::info!(storefront = %address, admin = %admin_address, threads = threads.len(), "bridge-cloud serves");

    let follower = replica.follow(broadcast, metrics.clone(), standing, feed);
    let follower = tokio::spawn(shutdown.core("the replica's follower", follower));
    let report = CloudReport {
        name: config.agent.name,
        storefront: address,
        connections_max,
        few_files,
        tunnel: tunnel.clone(),
        link,
        audit: audit.clone(),
        payments,
        sealing,
        data_centre,
        currencies,
        replica: standing_seen,
    };
    let admin = admin::serve(admin_listener, metrics.runtime.clone(), Arc::new(report), shutdown.clone());
    let admin = tokio::spawn(shutdown.core("the admin listener", admin));
    shutdown::tell_systemd(ServiceState::Ready);

    shutdown.started().await;
    tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join()))).await?;
    tunnel.close().await;
    owner.await?;
    follower.await?;
    audit_log::stopped(&audit, audit_end).await;
    admin.abort();
    tracing::info!("bridge-cloud has ended in order");
    Ok(())
}

/// Returns a note for the operator if this process has files for fewer connections than configured.
fn few_files(may_open: usize, config: &StorefrontConfig) -> Option<String> {
    let (asked, in_force) = (config.connections_max, storefront::connections_in_force(config));
    (in_force < asked).then(|| {
        format!(
            "storefront.connections_max is {asked}, but this process may open {may_open} files, so {in_force} connections are \
             taken at a time: raise LimitNOFILE= or `ulimit -n`"
        )
    })
}

/// Returns the path of the catalogue's snapshot.
pub fn snapshot_file(state_dir: &Path) -> PathBuf {
    state_dir.join("catalogue.snapshot")
}

/// Returns each brand's currency in the configuration.
pub fn currencies_of(brands: &BTreeMap<Brand, BrandConfig>) -> Currencies {
    brands.iter().map(|(brand, config)| (brand.clone(), config.currency)).collect()
}

/// The catalogue before the first link.
struct Replica {
    master: ReplicaRows,
    updates: Vec<Update>,
    brands: Vec<Brand>,
    snapshots: Snapshots,
    limits: subscriber::SubscriberLimits,
}

impl Replica {
    /// Reads the snapshot. If it cannot be used, or lacks a brand, this is logged and the catalogue
    /// is fetched from its source. The brands that it has are served meanwhile.
    fn restore(config: &CloudConfig) -> anyhow::Result<Self> {
        let brands: BTreeSet<Brand> = config.brands.keys().cloned().collect();
        let path = snapshot_file(&config.agent.state_dir);
        let compressor = Compressor::start().context("start the compressing thread")?;
        let mut master = ReplicaRows::new(brands.clone(), compressor);
        let started = Instant::now();
        let updates = match snapshot::read(&path, &brands) {
            Ok(Some(image)) => {
                let (rows, fresh_micros) = (image.rows.len(), image.fresh_micros);
                let mut updates = master.restore(image);
                let age = clock::now().get().saturating_sub(fresh_micros);
                let before = Duration::from_micros(u64::try_from(age).unwrap_or(0));
                // It comes first, so that no answer lacks its age.
                updates.insert(0, Update::Fresh(Freshness { at: Instant::now(), before }));
                tracing::info!(rows, took = ?started.elapsed(), age = ?before, "the catalogue is served from its snapshot");
                if !master.lacking().is_empty() {
                    let brands: Vec<&str> = master.lacking().iter().map(Brand::as_str).collect();
                    let brands = brands.join(", ");
                    tracing::warn!(%brands, "the snapshot is older than these brands: their reads are 503 until the data centre is reached");
                }
                updates
            }
            Ok(None) => Vec::new(),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%error, %path, "the catalogue's snapshot is not used, it is fetched from the data centre");
                Vec::new()
            }
        };
        let limits = subscriber::SubscriberLimits {
            window: FEED_WINDOW,
            silent_after: FEED_SILENT_AFTER,
            sums_every: config.catalogue.sums_every,
        };
        let snapshots = Snapshots { path, every: config.catalogue.snapshot_every };
        Ok(Self { master, updates, brands: brands.into_iter().collect(), snapshots, limits })
    }

    /// Sends the restored rows to the serving threads, then follows the feed until the tunnel has
    /// ended.
    async fn follow(
        self,
        readers: Broadcast,
        metrics: Arc<Metrics>,
        standing: watch::Sender<ReplicaState>,
        feed: mpsc::Receiver<FeedEvent>,
    ) {
        let Self { master, updates, brands, snapshots, limits } = self;
        let fresh = updates.iter().find_map(|update| match update {
            Update::Fresh(freshness) => Some(*freshness),
            Update::StartAnew { .. } | Update::Rows { .. } => None,
        });
        for update in updates {
            readers.send(update).await;
        }
        let (position, rows) = (master.position(), master.rows());
        let currencies = master.currencies();
        standing.send_replace(ReplicaState { position, fresh, rows, bootstrapping: false, currencies });
        let subscriber = Subscriber::new(limits, brands, master.resumes_at());
        Follower::new(subscriber, master, readers, snapshots, metrics, standing).run(feed).await;
    }
}

/// Returns one mistake for each line that is no verifier key.
pub fn key_mistakes(lines: &[String]) -> Vec<String> {
    let parsed = lines.iter().map(|line| NoteVerifier::parse(line)).enumerate();
    parsed.filter_map(|(index, key)| Some(format!("number {}: {}", index + 1, key.err()?))).collect()
}

fn pinned_keys(lines: &[String]) -> anyhow::Result<Vec<NoteVerifier>> {
    let mistakes = key_mistakes(lines);
    anyhow::ensure!(mistakes.is_empty(), "sealing.verifier_keys: {}", mistakes.join("; "));
    Ok(lines.iter().filter_map(|line| NoteVerifier::parse(line).ok()).collect())
}

/// Returns the data centre's agents in the configuration, none of them linked.
fn expected(config: &TunnelConfig) -> DataCentre {
    let dialled: Vec<String> = config.dial.iter().map(ToString::to_string).collect();
    DataCentre::expecting(&config.allow, &dialled, Moment { at: Instant::now(), clock: clock::now() })
}

/// Returns the limits for orders and for payments. As many questions may wait beside them.
fn limits(config: &CloudConfig) -> [SenderLimits; 2] {
    let orders = SenderLimits {
        queue_max: config.orders.queue_max,
        questions_max: config.orders.queue_max,
        settling_max: config.orders.settling_max,
        answer_within: config.storefront.answer_within,
        settle_for: config.orders.settle_for,
        resend_after: RESEND_AFTER,
    };
    let payments = SenderLimits {
        queue_max: config.payments.queue_max,
        questions_max: config.payments.queue_max,
        settling_max: config.payments.settling_max,
        answer_within: config.payments.answer_within,
        settle_for: config.payments.settle_for,
        resend_after: RESEND_AFTER,
    };
    [orders, payments]
}

fn shop((index, (brand, config)): (usize, (Brand, BrandConfig))) -> (String, Shop) {
    let index = BrandIndex(index);
    (brand.as_str().to_owned(), Shop { brand, index, token: config.token, currency: config.currency })
}

/// Report for the admin listener.
struct CloudReport {
    name: String,
    storefront: SocketAddr,
    connections_max: usize,
    /// Note if the limit is lower than configured.
    few_files: Option<String>,
    tunnel: TunnelHandle,
    link: OrderLink,
    audit: AuditLog,
    payments: OrderLink,
    sealing: KeysWatch,
    data_centre: watch::Receiver<DataCentre>,
    /// Currencies in the configuration.
    currencies: Currencies,
    replica: watch::Receiver<ReplicaState>,
}

impl Report for CloudReport {
    fn obstacles(&self) -> Vec<String> {
        let mut obstacles = Vec::new();
        if !self.link.load().link_open {
            obstacles
                .push("no link to an IDC takes orders: see /status, and the log for refusals".to_owned());
        }
        obstacles.extend(self.data_centre.borrow().said(Instant::now()).obstacles);
        obstacles.extend(self.audit.obstacle());
        obstacles.extend(address::obstacles("tunnel.listen", self.tunnel.listening()));
        obstacles.extend(address::obstacles("storefront.listen", &[self.storefront]));
        if self.sealing.borrow().is_empty() {
            obstacles.push(
                "no sealing key is known: the IDC's manifest must be signed by a pinned key".to_owned(),
            );
        }
        if self.replica.borrow().position.is_none() {
            obstacles.push("the catalogue is not replicated yet: it comes over the first link".to_owned());
        }
        obstacles
    }

    fn notes(&self) -> Vec<String> {
        let agents = self.data_centre.borrow().said(Instant::now()).notes;
        let currencies = currencies::notes(&self.currencies, &self.replica.borrow().currencies);
        let notes = self.tunnel.note().into_iter().chain(self.few_files.clone());
        notes.chain(self.audit.notes()).chain(agents).chain(currencies).collect()
    }

    fn expiries(&self) -> Vec<Expiry> {
        let mut expiries = self.tunnel.expiries();
        expiries.extend(Expiry::of_sealing_keys(&self.sealing.borrow()));
        expiries
    }

    fn status(&self) -> Value {
        let load = self.link.load();
        let replica = self.replica.borrow().clone();
        let keys = self.sealing.borrow().len();
        let credit = |credit: &CreditReport| {
            let CreditReport { brand, outstanding, limit } = credit;
            json!({
                "brand": brand.as_str(),
                "outstanding": outstanding,
                "limit": limit.map(|limit| limit.outstanding),
                "per_second": limit.map(|limit| limit.per_second),
            })
        };
        json!({
            "agent": self.name,
            "role": "cloud",
            "build": env!("CARGO_PKG_VERSION"),
            "identity": self.tunnel.id().to_string(),
            "storefront": self.storefront.to_string(),
            "connections_max": self.connections_max,
            "takes_orders": load.link_open && self.audit.is_writable() && self.data_centre.borrow().takes_orders(),
            "orders_queued": load.queued,
            "credits": self.link.credits().iter().map(credit).collect::<Value>(),
            "takes_payments": self.payments.load().link_open,
            "sealing_keys": keys,
            "catalogue": {
                "position": replica.position.map(|position| position.seq),
                "age_seconds": replica.fresh.map(|fresh| fresh.age().as_secs()),
                "rows": replica.rows,
                "bootstrapping": replica.bootstrapping,
            },
            "audit": self.audit.status(),
            "data_centre": self.data_centre.borrow().table(),
            "links": self.tunnel.status(),
        })
    }
}
