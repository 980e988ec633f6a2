//! The neighbour: another brand's few orders, beside a fault's. What concerns its own brand alone must not be felt there.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::sync::{oneshot, watch};

use super::load_of;
use crate::testkit::generated;
use crate::testkit::load::{self, Outcome, replay_paced};
use crate::testkit::plan::Plan;
use crate::testkit::site::Site;

/// The neighbour's orders a second: so few that nothing but the fault delays them.
const RATE: u32 = 20;

/// What the neighbour met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NeighbourReport {
    /// Its orders.
    pub orders: u64,
    /// Those that were not placed by their first request.
    pub disturbed: u64,
    /// Half of them took less than this.
    pub p50_us: u64,
    /// 99 of 100 of them took less than this.
    pub p99_us: u64,
}

/// The neighbour's name beside this brand.
pub(super) fn brand(name: &str) -> String {
    format!("beside-{name}")
}

/// Its orders for so long, with stock for all of them.
pub(super) fn plan(brand: &str, seed: u64, each: Duration) -> Plan {
    let orders = (u64::from(RATE) * each.as_secs()).max(1);
    generated::spread(brand, seed, usize::try_from(orders).unwrap_or(usize::MAX))
}

/// Places its orders while the other work is done; returns what they met. They have a thread of their own: it would be the crowd's
/// callers that they wait for, and not the agents.
pub(super) async fn with(
    plan: &Arc<Plan>,
    site: &Site,
    other: impl Future<Output = Result<()>>,
) -> Result<NeighbourReport> {
    let (callers, pace) = load_of(plan, RATE, site);
    // The fault's own load has the one progress bar.
    let callers = load::Options { title: String::new(), ..callers };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (tell, told) = oneshot::channel();
    let plan = Arc::clone(plan);
    thread::Builder::new().name("neighbour".to_owned()).spawn(move || {
        let report = runtime.block_on(replay_paced(&plan, &callers, pace, watch::Sender::new(0)));
        let _other_failed = tell.send(report);
    })?;
    let (told, other) = tokio::join!(told, other);
    other?;
    let told = told.context("the neighbour's thread ended early")?;
    let at_once =
        |settled: &&load::Settled| matches!(settled.outcome, Outcome::Placed { .. }) && settled.attempts == 1;
    let placed = told.settled.iter().filter(at_once).count() as u64;
    let orders = told.settled.len() as u64;
    let micros = |permille| u64::try_from(told.latency.quantile(permille).as_micros()).unwrap_or(u64::MAX);
    Ok(NeighbourReport { orders, disturbed: orders - placed, p50_us: micros(500), p99_us: micros(990) })
}

impl NeighbourReport {
    /// The 99th percentile as a multiple of another's, in hundredths.
    pub(super) fn p99_in_hundredths_of(&self, calm: &Self) -> u64 {
        100 * self.p99_us / calm.p99_us.max(1)
    }
}

impl fmt::Display for NeighbourReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |micros: u64| format!("{}.{} ms", micros / 1_000, micros / 100 % 10);
        let Self { orders, disturbed, p50_us, p99_us } = *self;
        write!(f, "{orders} orders, {disturbed} disturbed, p50 {}, p99 {}", millis(p50_us), millis(p99_us))
    }
}
