//! The process: starts the tunnel, the order link, the storefront and the admin listener, and ends them in order.
//!
//! The end: no new connection, what was begun is answered, then the tunnel is closed. What is still unknown then can be
//! asked about, or sent again under its key, at whichever agent comes after.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bridge_protocol::domain::Brand;
use bridge_protocol::note::NoteVerifier;
use bridge_protocol::order_link::sender::Limits;
use bridge_runtime::admin::{self, Report};
use bridge_runtime::identity::Role;
use bridge_runtime::shutdown::{self, ServiceState, Shutdown};
use bridge_runtime::telemetry::metrics::Metrics;
use bridge_runtime::tunnel::{Greeting, Started, Tunnel, TunnelHandle};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::{BrandConfig, CloudConfig};
use crate::order_link::{self, ManifestWatch, OrderLink};
use crate::storefront::{self, Shop, Storefront};

/// How long what was begun may take to end.
const DRAIN_FOR: Duration = Duration::from_secs(15);

/// A request without an answer for this long is sent again.
const RESEND_AFTER: Duration = Duration::from_secs(5);

/// Serves until a signal ends it.
pub async fn serve(config: CloudConfig) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    shutdown.on_signals(DRAIN_FOR).context("listen for signals")?;
    let metrics = Arc::new(Metrics::cloud());
    std::fs::create_dir_all(&config.agent.state_dir)
        .with_context(|| format!("create agent.state_dir {}", config.agent.state_dir.display()))?;

    let (_greeting, greeting) =
        watch::channel(Greeting { agent: config.agent.name.clone(), ..Greeting::default() });
    let Started { handle: tunnel, events, .. } = Tunnel::start(
        &config.tunnel,
        Role::Cloud,
        &config.agent.state_dir,
        greeting,
        metrics.clone(),
        shutdown.clone(),
    )?;

    let pinned = pinned_keys(&config.sealing.verifier_keys)?;
    let (link, manifest, owner) = order_link::start(limits(&config), pinned.clone(), events, metrics.clone());
    let owner = tokio::spawn(owner);

    let admin_listener = TcpListener::bind(config.admin.listen)
        .await
        .with_context(|| format!("listen on admin.listen {}", config.admin.listen))?;
    let admin_address = admin_listener.local_addr()?;
    let listen = config.storefront.listen;
    let storefront = Storefront {
        brands: config.brands.into_iter().map(shop).collect(),
        config: config.storefront,
        queue_max: config.orders.queue_max,
        link: link.clone(),
        manifest: manifest.clone(),
        pinned,
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
    };
    let (address, threads) = storefront::start(Arc::new(storefront))
        .with_context(|| format!("listen on storefront.listen {listen}"))?;
    tracing::info!(storefront = %address, admin = %admin_address, threads = threads.len(), "bridge-cloud serves");

    let report =
        Agent { name: config.agent.name, storefront: address, tunnel: tunnel.clone(), link, manifest };
    let admin = tokio::spawn(admin::serve(admin_listener, metrics, Arc::new(report), shutdown.clone()));
    shutdown::tell_systemd(ServiceState::Ready);

    shutdown.started().await;
    tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join()))).await?;
    tunnel.close().await;
    owner.await?;
    admin.abort();
    tracing::info!("bridge-cloud has ended in order");
    Ok(())
}

/// The pinned verifier keys; the mistakes of all of them at once.
pub fn pinned_keys(lines: &[String]) -> anyhow::Result<Vec<NoteVerifier>> {
    let parse = |(index, line): (usize, &String)| {
        NoteVerifier::parse(line).map_err(|error| format!("sealing.verifier_keys[{index}]: {error}"))
    };
    let (keys, mistakes): (Vec<_>, Vec<_>) = lines.iter().enumerate().map(parse).partition(Result::is_ok);
    let mistakes: Vec<String> = mistakes.into_iter().filter_map(Result::err).collect();
    anyhow::ensure!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    Ok(keys.into_iter().filter_map(Result::ok).collect())
}

fn limits(config: &CloudConfig) -> Limits {
    Limits {
        queue_max: config.orders.queue_max,
        settling_max: config.orders.settling_max,
        answer_within: config.storefront.answer_within,
        settle_for: config.orders.settle_for,
        resend_after: RESEND_AFTER,
    }
}

fn shop((brand, config): (Brand, BrandConfig)) -> (String, Shop) {
    (brand.as_str().to_owned(), Shop { brand, token: config.token, currency: config.currency })
}

/// What the admin listener tells.
struct Agent {
    name: String,
    storefront: SocketAddr,
    tunnel: TunnelHandle,
    link: OrderLink,
    manifest: ManifestWatch,
}

impl Report for Agent {
    fn obstacles(&self) -> Vec<String> {
        let mut obstacles = Vec::new();
        if !self.link.load().link_open {
            obstacles
                .push("no link to an IDC takes orders: see /status, and the log for refusals".to_owned());
        }
        if self.manifest.borrow().is_none() {
            obstacles.push(
                "no sealing key is known: the IDC's manifest must be signed by a pinned key".to_owned(),
            );
        }
        obstacles
    }

    fn status(&self) -> Value {
        let load = self.link.load();
        let keys = self.manifest.borrow().as_ref().map_or(0, |manifest| manifest.keys.len());
        json!({
            "agent": self.name,
            "role": "cloud",
            "build": env!("CARGO_PKG_VERSION"),
            "identity": self.tunnel.id().to_string(),
            "storefront": self.storefront.to_string(),
            "takes_orders": load.link_open,
            "orders_queued": load.queued,
            "sealing_keys": keys,
            "links": self.tunnel.status(),
        })
    }
}
