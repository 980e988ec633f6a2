//! Two agents of the data centre, one with a slow way to the database. It gets no more orders than
//! it takes. While it has no database, the other one's limit stays in force, and it gets none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bridge_tests::testkit::database::Database;
use bridge_tests::testkit::dba::Dba;
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::process::Running;
use bridge_tests::testkit::wan::TcpRelay;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::floods::{SLOW_COMMITS, limit_of};
use super::{both_links, requests_under_way};
use crate::common::{Shop, configure, metric, postgres, site_on, until};

/// Round trip between the slow agent and its database. A batch has about seven.
const SLOW_WAY: Duration = Duration::from_millis(80);

/// Callers of the flood, each with one order after the other.
const CALLERS: usize = 200;

/// Samples of the slow agent's load.
const SAMPLES: usize = 100;

#[tokio::test]
async fn a_slow_agent_gets_what_it_takes_and_a_failed_one_nothing() -> Result<()> {
    let (cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["a", "b"]).await?;
    let (slow, dir_of_slow) = site.add_idc("second-idc")?;
    let line = TcpRelay::start(cluster.address(), SLOW_WAY)?;
    let Database::Postgres { url, .. } = site.database() else {
        anyhow::bail!("the database is not PostgreSQL")
    };
    let there = url.replace(&cluster.address().port().to_string(), &line.address().port().to_string());
    let config = dir_of_slow.join("bridge-idc.toml");
    configure(&config, "ledger.url", there)?;
    configure(&config, "orders.committers", 1)?;
    configure(&config, "orders.batch_max", 4)?;
    let bridge = site.start().await?;
    let slow = slow.start().await?;
    both_links(&bridge).await?;

    let is_over = Arc::new(AtomicBool::new(false));
    let mut flood = JoinSet::new();
    for _ in 0..CALLERS {
        flood.spawn(order_until(Shop::open(&site, "a"), is_over.clone()));
    }
    until("the slow agent takes no more than it can", async || {
        // Its first commits show no rate yet.
        let limit = limit_at(&slow).await?.filter(|limit| *limit < CALLERS as u64 / 4);
        Ok(limit.is_some() && Some(requests_under_way(&[slow.admin()]).await?) <= limit)
    })
    .await?;
    let mut most = 0;
    for sample in 0..SAMPLES {
        most = limit_at(&slow).await?.unwrap_or(u64::MAX).max(most);
        let under_way = requests_under_way(&[slow.admin()]).await?;
        ensure!(under_way <= most, "sample {sample}: {under_way} orders at the agent that takes {most}");
        sleep(Duration::from_millis(20)).await;
    }
    ensure!(most < CALLERS as u64 / 4, "the slow agent takes {most}: the flood is too small");

    // The slow agent loses its database, and the other one's becomes slow.
    drop(line);
    until("the cloud agent knows of it", async || {
        let metrics = bridge.cloud.metrics().await?;
        Ok(metric(&metrics, "bridge_idc_agents{standing=\"database\"}")? == 1)
    })
    .await?;
    Dba::connect(site.database()).await?.execute(SLOW_COMMITS).await?;
    until("the flood has a limit", async || Ok(limit_of(&site, "a").await?.is_some())).await?;
    let (before, mut b) = (entries(&slow).await?, Shop::open(&site, "b"));
    for sample in 0..SAMPLES {
        ensure!(limit_of(&site, "a").await?.is_some(), "sample {sample}: there is no limit at all");
        if sample % 10 == 0 {
            let answer = b.place_new(&[(0, 1)]).await?;
            ensure!(answer.status == 201, "the order is answered {}: {}", answer.status, answer.json());
        }
    }
    let after = entries(&slow).await?;
    ensure!(after == before, "{} entries: an agent without a database got orders", after - before);
    is_over.store(true, Ordering::Relaxed);
    while let Some(caller) = flood.join_next().await {
        caller??;
    }
    b.close(&site, 10, [10, 0, 0]).await
}

/// Places one order after the other.
async fn order_until(mut shop: Shop, is_over: Arc<AtomicBool>) -> Result<()> {
    while !is_over.load(Ordering::Relaxed) {
        let (order, key) = (shop.order(&[(0, 1)]), format!("{:032x}", rand::random::<u128>()));
        let answer = shop.place(&key, order.body).await?;
        ensure!(
            [201, 202, 409, 503].contains(&answer.status.as_u16()),
            "{} {}",
            answer.status,
            answer.json()
        );
    }
    Ok(())
}

/// Returns the limit of the flood in the status of an agent of the data centre, if it has one.
async fn limit_at(agent: &Running) -> Result<Option<u64>> {
    let status = Client::new(agent.admin()).get("/status", None).await?.json();
    let limits = status["limits_of_a_cloud_agent"].as_array().context("no limits")?.clone();
    Ok(limits.iter().find(|limit| limit["brand"] == "a").and_then(|limit| limit["outstanding"].as_u64()))
}

/// Returns the entries in the audit log of an agent of the data centre. It logs each order that it
/// receives, also one that it refuses.
async fn entries(agent: &Running) -> Result<u64> {
    metric(&agent.metrics().await?, "bridge_audit_entries_total")
}
