//! Tests of both transports of the tunnel with real agents: orders, reads, a revocation and a kill,
//! and the choice between the transports on a line that blocks one of them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::common::{PATIENCE, Shop, metric, notice_soon, plan, site, site_of, until};
use anyhow::{Context, Result, ensure};
use bridge_certs::{Authority, Role};
use bridge_protocol::audit::Event;
use bridge_skips::{Lack, skipped};
use bridge_tests::testkit::audits;
use bridge_tests::testkit::database::Database;
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::site::{Bridge, Setup, Site, configure};
use bridge_tests::testkit::tlog;
use bridge_tests::testkit::wan::{Conditions, Cut, Protocol, lacks};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Makes each case a test over QUIC and a test over TCP.
macro_rules! over_both_transports {
    ($($case:ident)*) => {
        mod over_quic {
            $(#[tokio::test(flavor = "multi_thread")] async fn $case() -> anyhow::Result<()> {
                super::$case("quic").await
            })*
        }
        mod over_tcp {
            $(#[tokio::test(flavor = "multi_thread")] async fn $case() -> anyhow::Result<()> {
                super::$case("tcp").await
            })*
        }
    };
}

over_both_transports! {
    an_order_is_placed_and_its_state_and_stock_are_read
    a_revoked_agent_loses_its_live_link_and_gets_no_other
    after_a_kill_of_the_data_centres_agent_orders_flow_again
}

/// Two running agents whose tunnel uses one transport.
struct Stage {
    site: Site,
    bridge: Bridge,
    dir: TempDir,
}

fn configurations(site: &Site) -> [PathBuf; 2] {
    [site.cloud_dir().join("bridge-cloud.toml"), site.idc_dir().join("bridge-idc.toml")]
}

impl Stage {
    async fn start(transport: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let site = site(dir.path(), &["shoes"]).await?;
        notice_soon(&site)?;
        for config in configurations(&site) {
            configure(&config, "tunnel.transport", transport)?;
        }
        if transport == "tcp" {
            // The site's relay carries datagrams only.
            let target = toml::Value::Array(vec![site.tunnel.to_string().into()]);
            configure(&site.idc_dir().join("bridge-idc.toml"), "tunnel.dial", target)?;
        }
        let bridge = site.start().await?;
        Ok(Self { site, bridge, dir })
    }

    /// Places an order, and checks that it is placed. It is repeated while no link takes orders.
    async fn places(&self, shop: &mut Shop) -> Result<String> {
        let (order, began) = (shop.order(&[(0, 1)]), Instant::now());
        let mut placed = shop.place_until_told(&order.key, order.body.clone()).await?;
        while placed.status == 503 && began.elapsed() < PATIENCE {
            sleep(Duration::from_millis(20)).await;
            placed = shop.place_until_told(&order.key, order.body.clone()).await?;
        }
        ensure!(placed.status == 201, "the order is answered {}: {}", placed.status, placed.json());
        Ok(placed.header("location").context("no Location")?.to_owned())
    }
}

/// Returns the transports of an agent's links, and their reasons.
async fn links(admin: std::net::SocketAddr) -> Result<Vec<(String, String)>> {
    let status: Value = Client::new(admin).get("/status", None).await?.json();
    let links = status["links"].as_array().context("no links in the status")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(links.iter().map(|link| (text(&link["transport"]), text(&link["why_transport"]))).collect())
}

async fn an_order_is_placed_and_its_state_and_stock_are_read(transport: &str) -> Result<()> {
    let stage = Stage::start(transport).await?;
    let mut shop = Shop::open(&stage.site, "shoes");
    let location = stage.places(&mut shop).await?;
    let state = shop.resolved(&location).await?;
    ensure!(state["state"] == "placed", "{state}");
    // The stock came by the feed lane.
    let sku = &plan("shoes").stock[0].sku;
    until("the sold unit is seen in the replica", async || {
        let stock = shop.get(&format!("/v1/shoes/stock?sku={sku}")).await?;
        Ok(stock.status == 200 && String::from_utf8_lossy(&stock.body).contains("999"))
    })
    .await?;
    for (agent, why) in [(&stage.bridge.cloud, "the peer chose it"), (&stage.bridge.idc, "tunnel.transport")]
    {
        let found = links(agent.admin()).await?;
        ensure!(found == [(transport.to_owned(), why.to_owned())], "{found:?}");
        let up = metric(&agent.metrics().await?, &format!("bridge_links_up{{transport=\"{transport}\"}}"))?;
        ensure!(up == 1, "{up} links are up over {transport}");
    }
    let key = audits::key(&stage.site.cloud).await?;
    until("the log names the link's transport", async || {
        let log = tlog::check(&audits::folder(&stage.site.cloud_dir()), &key)?;
        let opened = audits::entries(&log)?.into_iter().find_map(|entry| match entry.event {
            Event::TunnelOpened(opened) => opened.transport,
            _ => None,
        });
        Ok(opened.is_some_and(|opened| opened.as_str() == transport))
    })
    .await?;
    shop.close(&stage.site, 1, [1, 0, 0]).await
}

async fn a_revoked_agent_loses_its_live_link_and_gets_no_other(transport: &str) -> Result<()> {
    let stage = Stage::start(transport).await?;
    let mut shop = Shop::open(&stage.site, "shoes");
    stage.places(&mut shop).await?;
    Authority::open(stage.dir.path().join("pki"))?.revoke(Role::Idc, "demo-idc")?;
    stage.bridge.cloud.wait_until_not_ready().await?;
    let refused = "bridge_links_refused_total{reason=\"revoked\"}";
    until("the agent dials again and is refused", async || {
        Ok(metric(&stage.bridge.cloud.metrics().await?, refused)? >= 2)
    })
    .await?;
    ensure!(links(stage.bridge.cloud.admin()).await?.is_empty());
    let order = shop.order(&[(0, 1)]);
    let answer = shop.place(&order.key, order.body).await?;
    ensure!(answer.status == 503, "an order is answered {}", answer.status);
    Ok(())
}

async fn after_a_kill_of_the_data_centres_agent_orders_flow_again(transport: &str) -> Result<()> {
    let mut stage = Stage::start(transport).await?;
    let mut shop = Shop::open(&stage.site, "shoes");
    stage.places(&mut shop).await?;
    stage.bridge.idc.kill9().await?;
    stage.bridge.idc.restart().await?;
    until("the link is up again", async || {
        let found = links(stage.bridge.cloud.admin()).await?;
        Ok(found.iter().any(|(over, _)| over == transport))
    })
    .await?;
    stage.places(&mut shop).await?;
    shop.close(&stage.site, 2, [2, 0, 0]).await
}

/// Starts two agents that choose their transport, on a line of IP packets. Returns `None` if this
/// machine cannot have one.
async fn choosing() -> Result<Option<Stage>> {
    if let Some(lack) = lacks() {
        skipped(Lack::Tun, lack);
        return Ok(None);
    }
    let dir = tempfile::tempdir()?;
    let database = Database::Sqlite(dir.path().join("idc").join("ledger.db"));
    let setup = Setup { wan: true, tapped: false, ..Setup::default() };
    let site = site_of(dir.path(), database, &["shoes"], setup).await?;
    for config in configurations(&site) {
        configure(&config, "tunnel.transport", "auto")?;
    }
    site.line.set(Conditions::round_trip(Duration::from_millis(10)));
    let bridge = site.start().await?;
    Ok(Some(Stage { site, bridge, dir }))
}

impl Stage {
    /// Waits until both agents have one link, over this transport, and for this reason.
    async fn carries_over(&self, transport: &str, why: &str) -> Result<()> {
        for agent in [&self.bridge.cloud, &self.bridge.idc] {
            until(&format!("{transport} alone carries"), async || {
                let found = links(agent.admin()).await?;
                Ok(found.len() == 1 && found.iter().all(|(over, _)| over == transport))
            })
            .await?;
        }
        let found = links(self.bridge.idc.admin()).await?;
        ensure!(found.iter().any(|(_, because)| because.contains(why)), "{found:?} without {why:?}");
        Ok(())
    }

    /// Cuts the line so while orders come in. They go on over TCP, and over QUIC after the cut.
    async fn survives(&self, cut: Cut, why: &str) -> Result<()> {
        let mut shop = Shop::open(&self.site, "shoes");
        self.carries_over("quic", "preferred").await?;
        self.places(&mut shop).await?;
        let round_trip = Duration::from_millis(10);
        self.site.line.set(Conditions::round_trip(round_trip).cutting(cut));
        let began = Instant::now();
        let mut placed = 1;
        while links(self.bridge.cloud.admin()).await?.iter().any(|(over, _)| over == "quic") {
            self.places(&mut shop).await?;
            placed += 1;
            ensure!(began.elapsed() < PATIENCE, "QUIC still carries");
        }
        self.carries_over("tcp", why).await?;
        for _ in 0..10 {
            self.places(&mut shop).await?;
            placed += 1;
        }
        self.site.line.set(Conditions::round_trip(round_trip));
        self.carries_over("quic", "preferred").await?;
        let log = fs::read_to_string(&self.site.idc.log)?;
        ensure!(log.matches("moved to the other transport").count() >= 2, "{log}");
        shop.close(&self.site, placed, [placed, 0, 0]).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_udp_moves_the_link_to_tcp_and_back() -> Result<()> {
    let Some(stage) = choosing().await? else { return Ok(()) };
    stage.survives(Cut::UDP, "QUIC").await
}

#[tokio::test(flavor = "multi_thread")]
async fn data_dropped_behind_a_handshake_move_the_link_to_tcp_and_back() -> Result<()> {
    let Some(stage) = choosing().await? else { return Ok(()) };
    stage.survives(Cut::DATA.of(Protocol::Udp), "QUIC").await
}
