//! Speed of the demo: batches and commits as the IDC agent counts them, rates and latencies as
//! callers see them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::testkit::load::{self, replay};
use crate::testkit::metrics::{Buckets, millionths};
use crate::testkit::plan::Plan;
use crate::testkit::process::Running;
use crate::testkit::site::{Bridge, Site};

/// Longest time for one step. It is long enough for an agent's restart.
const PATIENCE: Duration = Duration::from_secs(60);

/// Commits of the IDC agent, at one moment or between two.
#[derive(Clone, Debug, Default)]
pub(super) struct Commits {
    /// Number of orders in each transaction.
    pub(super) batches: Buckets,
    time_us: u64,
}

impl Commits {
    /// Returns the commits since `earlier`.
    pub(super) fn since(self, earlier: &Commits) -> Commits {
        let time_us = self.time_us.saturating_sub(earlier.time_us);
        Commits { batches: self.batches.since(&earlier.batches), time_us }
    }

    fn mean(&self) -> Duration {
        Duration::from_micros(self.time_us / self.batches.total().max(1))
    }
}

/// Rates of orders, and the time of one order for a single caller.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rates {
    pub(super) hot_per_s: u64,
    pub(super) spread_per_s: u64,
    /// Mean time of one order for a single caller.
    pub(super) lonely_order: Duration,
    /// Part of that time that the database's transaction takes.
    pub(super) lonely_commit: Duration,
}

/// Returns the commits of the IDC agent so far.
pub(super) async fn commits(idc: &Running) -> Result<Commits> {
    let text = idc.metrics().await?;
    let batches = Buckets::read(&text, "bridge_batch_orders")?;
    Ok(Commits { batches, time_us: millionths(&text, "bridge_commit_seconds_sum") })
}

/// Returns the options of callers for a plan's brand.
pub(super) fn callers(site: &Site, plan: &Plan, callers: u32, title: &str) -> load::Options {
    load::Options {
        storefront: site.storefront,
        token: site.token(&plan.brand).to_owned(),
        callers: callers as usize,
        patience: PATIENCE,
        title: title.to_owned(),
    }
}

/// Replays the three plans one after the other. The last one has a single caller.
pub(super) async fn rates(site: &Site, bridge: &Bridge, plans: [&Arc<Plan>; 3], many: u32) -> Result<Rates> {
    let [hot, spread, lonely] = plans;
    let hot_run = replay(hot, &callers(site, hot, many, "hot SKU")).await;
    let spread_run = replay(spread, &callers(site, spread, many, "spread SKUs")).await;
    let before = commits(&bridge.idc).await?;
    let lonely_run = replay(lonely, &callers(site, lonely, 1, "one caller")).await;
    let committed = commits(&bridge.idc).await?.since(&before);
    Ok(Rates {
        hot_per_s: hot_run.per_second(),
        spread_per_s: spread_run.per_second(),
        lonely_order: lonely_run.took / u32::try_from(lonely.steps.len().max(1)).unwrap_or(u32::MAX),
        lonely_commit: committed.mean(),
    })
}
