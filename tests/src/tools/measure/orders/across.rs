//! Orders with Bridge: both agents across the line, and callers beside the cloud agent.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Pid;

use super::mix::Orders;
use super::sample::Sample;
use crate::testkit::arrivals::{self, Arrivals, Order};
use crate::testkit::database::Database;
use crate::testkit::load::{Options, replay};
use crate::testkit::plan::{OrderStep, Plan, Step};
use crate::testkit::process::Programs;
use crate::testkit::site::{Bridge, Setup, Site};
use crate::tools::measure::cpu::Meter;
use crate::tools::measure::progress::tell;

/// Longest time for one order.
const PATIENCE: Duration = Duration::from_secs(60);
const SEED: u64 = 7;

/// A running bridge with the stock of some mixes.
#[derive(Debug)]
pub(super) struct Across {
    site: Site,
    bridge: Bridge,
    meter: Meter,
    rounds: usize,
}

impl Across {
    /// Sets up a bridge and starts it. The database server's process is for its CPU time.
    pub(super) async fn start(
        dir: &Path,
        database: Database,
        mixes: &[Orders],
        server: Pid,
        wan: bool,
    ) -> Result<Across> {
        let site = set_up(dir, database, mixes, wan).await?;
        let bridge = site.start().await?;
        let pid = |agent: &crate::testkit::process::Running| agent.pid().context("an agent has ended");
        let (cloud, idc) = (pid(&bridge.cloud)?, pid(&bridge.idc)?);
        let meter = Meter::of(vec![("cloud agent", cloud), ("IDC agent", idc), ("PostgreSQL", server)]);
        Ok(Across { site, bridge, meter, rounds: 0 })
    }

    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    /// Places this many orders with callers who each place the next order after the last answer.
    pub(super) async fn closed(&mut self, orders: &Orders, callers: usize, count: usize) -> Result<Sample> {
        self.rounds += 1;
        let plan = Arc::new(orders.plan(&format!("closed-{}", self.rounds), count));
        let options = Options {
            storefront: self.site.storefront,
            token: self.site.token(orders.brand).to_owned(),
            callers,
            patience: PATIENCE,
            title: String::new(),
        };
        let before = self.meter.read();
        let report = replay(&plan, &options).await;
        let sample = Sample::of(&report.latency, report.took, &self.meter, &before);
        let placed = report.tally().committed;
        self.check(placed, count, &format!("{:?}; {:?}", report.tally(), report.refusals()))?;
        Ok(sample.placing(placed, count as u64))
    }

    /// Places orders at these moments, whatever has been answered. Their latency counts from their
    /// moments.
    pub(super) async fn open(&mut self, orders: &Orders, moments: &[Duration]) -> Result<Sample> {
        self.rounds += 1;
        let token = self.site.token(orders.brand);
        let made = orders.steps.iter().map(|OrderStep { body, .. }| Order::new(orders.brand, token, body));
        let of = orders.steps.len().max(1);
        let moments: Vec<_> = moments.iter().enumerate().map(|(index, at)| (*at, index % of)).collect();
        let count = moments.len();
        let arrivals = Arc::new(Arrivals { orders: made.collect(), moments });
        let options = arrivals::Options {
            storefront: self.site.storefront,
            connections: CONNECTIONS,
            patience: PATIENCE,
            keys: format!("open-{}", self.rounds),
        };
        let before = self.meter.read();
        let running = arrivals::start(arrivals, options, Instant::now()).context("start the callers")?;
        let report = running.finish().await.context("the callers ended without a report")?;
        let sample = Sample::of(&report.latency, report.took, &self.meter, &before);
        let arrivals::Report { placed, refused, open, other, .. } = report;
        let outcomes = format!("{refused} refused, {open} of unknown outcome, {other} other");
        self.check(placed, count, &outcomes)?;
        // Only orders that were placed have a latency, and with it a part in the rate.
        Ok(Sample { not_placed: (count as u64).saturating_sub(placed), ..sample })
    }

    /// Says if some orders were not placed.
    ///
    /// # Errors
    ///
    /// Fails if none was placed: then the bridge does not work.
    fn check(&self, placed: u64, count: usize, outcomes: &str) -> Result<()> {
        let log = self.bridge.cloud.log().display();
        ensure!(placed > 0, "no order was placed ({outcomes}): see {log}");
        if placed < count as u64 {
            tell(&format!("only {placed} of {count} orders were placed: {outcomes}"));
        }
        Ok(())
    }
}

/// Connections of callers whose orders come at given moments. No order waits for one of so many.
const CONNECTIONS: usize = 2_000;

/// Sets up a site with the stock of all mixes. No agent runs yet.
pub(super) async fn set_up(dir: &Path, database: Database, mixes: &[Orders], wan: bool) -> Result<Site> {
    let brands: Vec<_> = mixes.iter().map(|orders| (orders.brand, orders.currency)).collect();
    let setup = Setup { tapped: false, wan, ..Setup::default() };
    let site = Site::set_up(dir, Programs::build()?, database, &brands, SEED, setup).await?;
    import(&site, mixes).await?;
    Ok(site)
}

/// Imports the stock of all mixes.
async fn import(site: &Site, mixes: &[Orders]) -> Result<()> {
    for orders in mixes {
        let (brand, currency) = (orders.brand.to_owned(), orders.currency);
        let steps: Vec<Step> = Vec::new();
        site.import(&Plan { brand, currency, stock: orders.stock.clone(), steps }).await?;
    }
    Ok(())
}
