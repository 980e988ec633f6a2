//! The neighbour: a few orders of another brand while a fault is injected. A fault of one brand
//! must not affect them.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::sync::{oneshot, watch};

use super::load_of;
use crate::testkit::generated;
use crate::testkit::histogram::Histogram;
use crate::testkit::load::{self, Outcome, replay_paced};
use crate::testkit::plan::Plan;
use crate::testkit::site::Site;

/// The neighbour's orders per second: so few that only the fault can delay them, and enough for a
/// 99th percentile that no single order decides.
const RATE: u32 = 50;

/// The neighbour's orders in one or more stretches of time.
#[derive(Clone, Debug, Default)]
pub(super) struct NeighbourOrders {
    /// Number of orders that were not placed by their first request.
    pub(super) disturbed: u64,
    pub(super) latency: Histogram,
}

impl NeighbourOrders {
    /// Adds the orders of another stretch.
    pub(super) fn merge(&mut self, other: &Self) {
        self.disturbed += other.disturbed;
        self.latency.merge(&other.latency);
    }

    /// Returns their number and quantiles.
    pub(super) fn report(&self) -> NeighbourReport {
        let micros =
            |permille| u64::try_from(self.latency.quantile(permille).as_micros()).unwrap_or(u64::MAX);
        NeighbourReport {
            orders: self.latency.count(),
            disturbed: self.disturbed,
            p50_us: micros(500),
            p99_us: micros(990),
        }
    }
}

/// Result of the neighbour's orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NeighbourReport {
    /// Number of its orders.
    pub orders: u64,
    /// Number of orders that were not placed by their first request.
    pub disturbed: u64,
    /// Median of their durations in microseconds.
    pub p50_us: u64,
    /// 99th percentile of their durations in microseconds.
    pub p99_us: u64,
}

/// Returns the name of the neighbour of a brand.
pub(super) fn brand(name: &str) -> String {
    format!("beside-{name}")
}

/// Returns a plan of its orders for the time `each`, with stock for all of them.
pub(super) fn plan(brand: &str, seed: u64, each: Duration) -> Plan {
    let orders = (u64::from(RATE) * each.as_secs()).max(1);
    generated::spread(brand, seed, usize::try_from(orders).unwrap_or(usize::MAX))
}

/// Places its orders while `other` runs, and returns them. They have their own thread;
/// otherwise they would wait for the callers of a crowd, not for the agents.
pub(super) async fn with(
    plan: &Arc<Plan>,
    site: &Site,
    other: impl Future<Output = Result<()>>,
) -> Result<NeighbourOrders> {
    let (callers, pace) = load_of(plan, RATE, site);
    // The load of the fault's own brand has the progress bar.
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
    Ok(NeighbourOrders { disturbed: told.settled.len() as u64 - placed, latency: told.latency })
}

impl NeighbourReport {
    /// Returns the 99th percentile as a multiple of the one in `calm`, in hundredths.
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
