//! How fast it was: batches and commits as the IDC counts them, rates and latencies as callers see them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::testkit::load::{self, replay};
use crate::testkit::metrics::{Buckets, millionths};
use crate::testkit::plan::Plan;
use crate::testkit::process::Running;
use crate::testkit::site::{Bridge, Site};

/// How long a caller tries one step: enough for an agent to restart, short enough to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the IDC committed, at one moment or between two.
#[derive(Clone, Debug, Default)]
pub(super) struct Commits {
    /// Orders in a transaction.
    pub(super) batches: Buckets,
    time_us: u64,
}

impl Commits {
    /// What came on top of `earlier`.
    pub(super) fn since(self, earlier: &Commits) -> Commits {
        let time_us = self.time_us.saturating_sub(earlier.time_us);
        Commits { batches: self.batches.since(&earlier.batches), time_us }
    }

    fn mean(&self) -> Duration {
        Duration::from_micros(self.time_us / self.batches.total().max(1))
    }
}

/// Orders a second, and what one order costs a caller who is alone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rates {
    pub(super) hot_per_s: u64,
    pub(super) spread_per_s: u64,
    /// What one caller waits for one order, on average.
    pub(super) lonely_order: Duration,
    /// How much of that is the database's transaction.
    pub(super) lonely_commit: Duration,
}

/// What the IDC has committed so far.
pub(super) async fn commits(idc: &Running) -> Result<Commits> {
    let text = idc.metrics().await?;
    let batches = Buckets::read(&text, "bridge_batch_orders")?;
    Ok(Commits { batches, time_us: millionths(&text, "bridge_commit_seconds_sum") })
}

/// Callers of a plan's brand.
pub(super) fn callers(site: &Site, plan: &Plan, callers: u32, title: &str) -> load::Options {
    load::Options {
        storefront: site.storefront,
        token: site.token(&plan.brand).to_owned(),
        callers: callers as usize,
        patience: PATIENCE,
        title: title.to_owned(),
    }
}

/// Replays the three plans one after the other, the lonely one by a single caller.
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
