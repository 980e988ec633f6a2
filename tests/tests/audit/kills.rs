//! Kills both agents and the database and cuts the line, again and again, during a replay. The
//! ledger must end as it does without these faults (promises P1, P2, P3, P4).
//!
//! The replay is a generated launch. With `BRIDGE_YEAR` set, as in `cargo verify --with year`, it
//! is the real invoices of a whole year, which takes minutes.

use std::path::Path;
use std::sync::Arc;

use crate::common::{PATIENCE, Shop, configure, notice_soon, postgres, site, until};
use anyhow::{Context, Result, ensure};
use bridge_skips::{Lack, skipped};
use bridge_tests::testkit::database::Database;
use bridge_tests::testkit::generated;
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::ledger_totals::LedgerTotals;
use bridge_tests::testkit::load::{Options, Outcome, Tally, replay, replay_watched};
use bridge_tests::testkit::plan::Plan;
use bridge_tests::testkit::postgres::Postgres;
use bridge_tests::testkit::process::{Programs, Running};
use bridge_tests::testkit::retail::{self, Book, Days};
use bridge_tests::testkit::site::{Bridge, Site};
use tokio::sync::watch;

/// Number of orders. It is large enough that orders are under way at each fault.
const ORDERS: usize = 2_000;

/// Number of times that each fault occurs.
const ROUNDS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn kills_and_cuts_change_nothing_about_the_end_on_sqlite() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let database = Database::Sqlite(dir.path().join("idc").join("ledger.db"));
    ends_as_if_undisturbed(dir.path(), database, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_and_cuts_change_nothing_about_the_end_on_postgres() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (cluster, database) = postgres().await?;
    ends_as_if_undisturbed(dir.path(), database, Some(cluster)).await
}

/// Number of links of the IDC agent: as many as its peer allows.
const LINKS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_is_readmitted_although_its_old_links_fill_its_limit() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["back"]).await?;
    let (cloud, idc) = (site.cloud_dir().join("bridge-cloud.toml"), site.idc_dir().join("bridge-idc.toml"));
    notice_soon(&site)?;
    for config in [&cloud, &idc] {
        // Rules out that a link ends by its own time-out during this test.
        configure(config, "tunnel.idle_timeout", "10m")?;
    }
    configure(&cloud, "tunnel.links_from_peer_max", i64::try_from(LINKS)?)?;
    configure(&idc, "tunnel.links_per_peer", i64::try_from(LINKS)?)?;
    let mut bridge = site.start().await?;
    let before = newest_of_all_links(&bridge.cloud, 0).await.context("at first")?;
    bridge.idc.kill9().await?;
    bridge.idc.restart().await?;
    newest_of_all_links(&bridge.cloud, before).await.context("after the kill")?;
    let mut shop = Shop::open(&site, "back");
    let placed = shop.place_new(&[(0, 1)]).await?;
    ensure!(placed.status == 201, "{}", placed.status);
    shop.close(&site, 1, [1, 0, 0]).await
}

/// Waits until an agent has all its links, each is newer than the given one, and the peer is heard
/// on each. Returns the newest link.
async fn newest_of_all_links(agent: &Running, newer_than: u64) -> Result<u64> {
    let mut admin = Client::new(agent.admin());
    let mut newest = 0;
    until("every link is a new one and is heard", async || {
        let status = admin.get("/status", None).await?.json();
        let links = status["links"].as_array().context("no links")?;
        let heard = links.iter().filter(|link| link["silent"] == false);
        let ids: Vec<_> = heard.filter_map(|link| link["link"].as_u64()).collect();
        newest = ids.iter().copied().max().unwrap_or_default();
        Ok(links.len() == LINKS && ids.len() == LINKS && ids.iter().all(|id| *id > newer_than))
    })
    .await?;
    Ok(newest)
}

async fn ends_as_if_undisturbed(dir: &Path, database: Database, mut cluster: Option<Postgres>) -> Result<()> {
    let Some(plan) = ample_plan()? else {
        skipped(Lack::Data, "the real invoices are not on this machine");
        return Ok(());
    };
    let plan = Arc::new(plan);
    let site = Site::prepare(dir, Programs::build()?, database, &[(&plan.brand, plan.currency)], 1).await?;
    notice_soon(&site)?;
    site.import(&plan).await?;
    let mut bridge = site.start().await?;
    let options = Options {
        storefront: site.storefront,
        token: site.token(&plan.brand).to_owned(),
        callers: 32,
        patience: PATIENCE,
        title: String::new(),
    };

    let progress = watch::Sender::new(0);
    let faults = strike(&site, &mut bridge, cluster.as_mut(), progress.subscribe(), plan.steps.len());
    let (disturbed, struck) = tokio::join!(replay_watched(&plan, &options, progress.clone()), faults);
    struck?;
    let retried = disturbed.settled.iter().filter(|settled| settled.attempts > 1).count();
    ensure!(retried > 0, "no fault was noticed by any caller");

    let orders = plan.places().count() as u64;
    let cancels = plan.steps.len() as u64 - orders;
    let undisturbed = Tally { placed: orders, committed: orders, cancelled: cancels, ..Tally::default() };
    let tally = Tally { replayed: 0, ..disturbed.tally() };
    ensure!(tally == undisturbed, "{tally:?}, not {undisturbed:?}: {:?}", disturbed.refusals());
    let agree = async || {
        let books = LedgerTotals::read(site.database(), &plan.brand).await?;
        let differences = LedgerTotals::expected(&disturbed).differences(&books);
        ensure!(differences.is_empty(), "{differences:?}");
        Ok(())
    };
    agree().await?;

    let again = replay(&plan, &options).await;
    for (index, (first, second)) in disturbed.settled.iter().zip(&again.settled).enumerate() {
        ensure!(second.replayed, "step {index} is done again: {second:?}");
        ensure!(first.outcome == second.outcome, "step {index}: {first:?}, then {second:?}");
        ensure!(
            matches!(first.outcome, Outcome::Placed { .. } | Outcome::Cancelled),
            "step {index}: {first:?}"
        );
    }
    agree().await
}

/// Returns a plan with so much stock that all orders are placed in any order of arrival. Returns
/// `None` if the year is requested and its invoices are not on this machine.
fn ample_plan() -> Result<Option<Plan>> {
    if std::env::var_os("BRIDGE_YEAR").is_some() {
        let invoices = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/online-retail"));
        if !invoices.exists() {
            return Ok(None);
        }
        let retail = retail::read(invoices, &Days::All)?;
        return Ok(Some(retail::plan(&retail, &Book::of(&retail), "retail", 1)));
    }
    let mut plan = generated::launch(11, ORDERS);
    plan.stock[0].quantity = ORDERS as u64;
    Ok(Some(plan))
}

/// Causes each fault in turn, spread evenly over the steps.
async fn strike(
    site: &Site,
    bridge: &mut Bridge,
    mut cluster: Option<&mut Postgres>,
    mut settled: watch::Receiver<usize>,
    steps: usize,
) -> Result<()> {
    let faults = [Fault::Cloud, Fault::Idc, Fault::Line, Fault::Database];
    let faults = faults.into_iter().filter(|fault| cluster.is_some() || *fault != Fault::Database);
    let faults: Vec<_> = faults.collect::<Vec<_>>().repeat(ROUNDS);
    for (index, fault) in faults.iter().enumerate() {
        let due = (index + 1) * steps / (faults.len() + 1);
        settled.wait_for(|settled| *settled >= due).await?;
        match fault {
            Fault::Cloud => {
                bridge.cloud.kill9().await?;
                bridge.cloud.restart().await?;
            }
            Fault::Idc => {
                bridge.idc.kill9().await?;
                bridge.idc.restart().await?;
            }
            Fault::Line => {
                site.cut_line(&bridge.cloud).await?;
            }
            Fault::Database => {
                let cluster = cluster.as_mut().context("only with PostgreSQL")?;
                cluster.kill9().await?;
                cluster.restart().await?;
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Cloud,
    Idc,
    Line,
    Database,
}
