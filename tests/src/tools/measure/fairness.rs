//! Fairness: the orders of most brands while a few bring twenty times their share, against the same
//! orders without them; and orders beside a flood of readers.
//!
//! A hundred brands share one bridge. First the bridge's rate is measured with one brand alone; a
//! hundredth of it is a brand's share. Most brands bring half of their share, at drawn moments. In
//! every second turn, sixteen others bring twenty times theirs: they come at their moments,
//! whatever they are told, and never come back. Latencies count from the moments. Each crowd has a
//! thread of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;
use tokio::time::sleep;

use super::bare::FixedAnswer;
use super::cpu::{self, Meter};
use super::draw::Draw;
use super::freshness::ROUND_TRIP;
use super::orders::rate;
use super::peers;
use super::progress::{Progress, tell};
use super::report::decimal;
use super::row::{Pair, Row, Target};
use super::server::{Server, Subject};
use super::wrk;
use crate::testkit::arrivals::{self, Arrivals, Order};
use crate::testkit::generated;
use crate::testkit::http::Client;
use crate::testkit::load::{Options, replay, replay_watched};
use crate::testkit::machine::{Need, make_ready};
use crate::testkit::plan::{OrderStep, Plan, Step};
use crate::testkit::postgres::Postgres;
use crate::testkit::proc_stat::cpu_of_ended_children;
use crate::testkit::process::Programs;
use crate::testkit::site::{Bridge, Setup, Site};
use crate::testkit::traffic::{Course, Curve};

/// Programs that this bench needs.
const NEEDS: [Need; 1] = [Need { program: "wrk", package: "wrk" }];
/// Part of its share that a quiet brand brings, in percent.
const QUIET_PERCENT: u64 = 50;
/// Number of shares that a flooding brand brings.
const FLOOD_SHARES: u64 = 20;
/// Connections of the quiet brands and of the floods. The floods have no use for more: what waits
/// for a connection has not reached the bridge.
const QUIET_CONNECTIONS: usize = 512;
const FLOOD_CONNECTIONS: usize = 2_000;
/// Time for which the floods come alone, so that all queues are full.
const HEAD_START: Duration = Duration::from_secs(1);
/// Connections of the readers.
const READERS: usize = 64;
/// Different orders and SKUs of a brand.
const ORDERS: usize = 20;
const AMPLE: u64 = 1_000_000_000;
const PATIENCE: Duration = Duration::from_secs(60);
const SEED: u64 = 7;

/// Duration and number of the measurements.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Number of rounds.
    pub rounds: usize,
    /// Duration of each measurement, in seconds.
    pub seconds: u64,
    /// Number of brands.
    pub brands: usize,
    /// Number of those that flood the bridge.
    pub floods: usize,
    /// Callers that find out the bridge's rate.
    pub callers: usize,
}

/// A bridge with many brands.
struct Shops {
    site: Site,
    bridge: Bridge,
    meter: Meter,
    /// A plan of a few orders for each brand.
    plans: Vec<Plan>,
    effort: Effort,
    runs: u64,
}

/// Orders of all quiet brands together.
#[derive(Debug, Default)]
struct Quiet {
    alone: Vec<arrivals::Report>,
    flooded: Vec<arrivals::Report>,
    floods: Vec<arrivals::Report>,
}

/// Readers beside orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readers {
    Nobody,
    OfBridge,
    OfTheBareServer,
}

/// Orders beside readers, in the order of [`Readers`].
#[derive(Debug, Default)]
struct Beside {
    per_second: [Vec<u64>; 3],
    notes: Vec<String>,
}

/// Measures all rows. `program` is the program that has the command `serve-bare`. The bridge uses
/// the folder `dir`.
///
/// # Errors
///
/// Fails if a program cannot be started, or if the bridge cannot place orders.
pub async fn measure(program: &Path, dir: &Path, effort: Effort, draw: &mut Draw) -> Result<Vec<Row>> {
    make_ready(&NEEDS).await?;
    let cluster = Box::pin(Postgres::start_with(peers::source())).await?;
    let mut shops = Box::pin(Shops::open(&cluster, dir, effort)).await?;
    let capacity = shops.capacity().await.context("find out the bridge's rate")?;
    let share = capacity / effort.brands.max(1) as u64;
    tell(&format!("one brand alone: {} orders/s; a brand's share: {}", decimal(capacity), decimal(share)));
    let mut quiet = Quiet::default();
    let progress = Progress::of("fairness", 5 * effort.rounds);
    for _ in 0..effort.rounds {
        for is_flooded in draw.order(&[false, true]) {
            shops.turn(share, is_flooded, &mut quiet).await?;
            progress.step();
        }
    }
    let (path, answer) = shops.read().await?;
    let bare = Server::bare(program, dir, &answer, super::machine::cores()).await?;
    let bare = bare.asked_for(&path);
    let mut beside = Beside::default();
    for _ in 0..effort.rounds {
        for readers in draw.order(&[Readers::Nobody, Readers::OfBridge, Readers::OfTheBareServer]) {
            let subject = match readers {
                Readers::OfTheBareServer => bare.clone(),
                _ => Subject { address: shops.site.storefront, path: path.clone(), pid: bare.pid },
            };
            shops.orders_beside(readers, &subject, capacity, &mut beside).await?;
            progress.step();
        }
    }
    Ok(rows(&quiet, &beside))
}

impl Shops {
    async fn open(cluster: &Postgres, dir: &Path, effort: Effort) -> Result<Shops> {
        tell("building the agents");
        let names: Vec<_> = (0..effort.brands).map(|index| format!("brand-{index:03}")).collect();
        let plans: Vec<_> = names.iter().map(|brand| plan_of(brand)).collect();
        let brands: Vec<_> = plans.iter().map(|plan| (plan.brand.as_str(), plan.currency)).collect();
        let database = cluster.create_database("bridge").await?;
        let setup = Setup { tapped: false, ..Setup::default() };
        let site = Site::set_up(dir, Programs::build()?, database, &brands, SEED, setup).await?;
        import(&site, &plans).await?;
        site.line.delay(ROUND_TRIP);
        let bridge = site.start().await?;
        let server = cluster.server().context("PostgreSQL has ended")?;
        let pid = |agent: &crate::testkit::process::Running| agent.pid().context("an agent has ended");
        let roots = vec![
            ("cloud agent", pid(&bridge.cloud)?),
            ("IDC agent", pid(&bridge.idc)?),
            ("PostgreSQL", server),
        ];
        Ok(Shops { site, bridge, meter: Meter::of(roots), plans, effort, runs: 0 })
    }

    /// Returns the orders a second that one brand alone can place, in thousandths.
    async fn capacity(&mut self) -> Result<u64> {
        let callers = self.effort.callers;
        let mut capacity = 0;
        // The first run opens connections, and shows how many orders the second has to have.
        for _ in 0..2 {
            let count = usize::try_from(capacity * self.effort.seconds / 1_000)?.max(8 * callers);
            let (plan, options) = self.closed(count)?;
            let report = replay(&plan, &options).await;
            let placed = report.tally().committed;
            let log = self.bridge.cloud.log().display();
            ensure!(placed == count as u64, "{placed} of {count} orders were placed: see {log}");
            capacity = rate(placed, report.took);
        }
        Ok(capacity)
    }

    /// Returns a plan of the first brand, and its callers.
    fn closed(&mut self, count: usize) -> Result<(Arc<Plan>, Options)> {
        self.runs += 1;
        let plan = self.plans.first().context("no brand")?;
        let orders: Vec<_> = plan.places().map(|(_, order)| order).collect();
        let steps = orders.into_iter().cycle().take(count).enumerate().map(|(index, order)| {
            let key = format!("closed-{}-{index}", self.runs);
            Step::Place(OrderStep { key, planted: Vec::new(), ..order.clone() })
        });
        let steps = steps.collect();
        let options = Options {
            storefront: self.site.storefront,
            token: self.site.token(&plan.brand).to_owned(),
            callers: self.effort.callers,
            patience: PATIENCE,
            title: String::new(),
        };
        let (brand, currency, stock) = (plan.brand.clone(), plan.currency, plan.stock.clone());
        Ok((Arc::new(Plan { brand, currency, stock, steps }), options))
    }

    /// Measures the quiet brands once. `share` is a brand's share, in thousandths of an order a
    /// second.
    async fn turn(&mut self, share: u64, is_flooded: bool, quiet: &mut Quiet) -> Result<()> {
        let Effort { seconds, brands, floods, .. } = self.effort;
        let length = Duration::from_secs(seconds);
        let quiet_rate = share * QUIET_PERCENT / 100 * (brands - floods) as u64;
        let flood_rate = share * FLOOD_SHARES * floods as u64;
        let flood = if is_flooded {
            let crowd = self.crowd(0..floods, flood_rate, length + 2 * HEAD_START);
            let flood = self.start(crowd, FLOOD_CONNECTIONS)?;
            sleep(HEAD_START).await;
            Some(flood)
        } else {
            None
        };
        let crowd = self.crowd(floods..brands, quiet_rate, length);
        let report =
            self.start(crowd, QUIET_CONNECTIONS)?.finish().await.context("a crowd without a report")?;
        match flood {
            Some(flood) => {
                quiet.floods.push(flood.stop().await.context("a flood without a report")?);
                quiet.flooded.push(report);
            }
            None => quiet.alone.push(report),
        }
        Ok(())
    }

    /// Draws the orders of some brands together, at a rate in thousandths of an order a second.
    fn crowd(&mut self, brands: std::ops::Range<usize>, rate: u64, length: Duration) -> Arrivals {
        self.runs += 1;
        let mut orders = Vec::new();
        for plan in self.plans.get(brands).unwrap_or_default() {
            let token = self.site.token(&plan.brand);
            orders.extend(plan.places().map(|(_, order)| Order::new(&plan.brand, token, &order.body)));
        }
        let count = u128::from(rate) * length.as_millis() / 1_000_000;
        let course = Course::new(Curve::flat(), length / 2, length / 2);
        let mut rng = ChaCha8Rng::seed_from_u64(SEED + self.runs);
        let moments = course.moments(u64::try_from(count).unwrap_or(u64::MAX), SEED + self.runs);
        let moments = moments.into_iter().map(|at| (at, rng.random_range(0..orders.len().max(1))));
        Arrivals { moments: moments.collect(), orders }
    }

    fn start(&self, crowd: Arrivals, connections: usize) -> Result<arrivals::Running> {
        let (storefront, keys) = (self.site.storefront, format!("open-{}", self.runs));
        let options = arrivals::Options { storefront, connections, patience: PATIENCE, keys };
        arrivals::start(Arc::new(crowd), options, Instant::now()).context("start a crowd")
    }

    /// Returns the path of a catalogue read, and its answer.
    async fn read(&self) -> Result<(String, FixedAnswer)> {
        let plan = self.plans.last().context("no brand")?;
        let sku = &plan.stock.first().context("no SKU")?.sku;
        let path = format!("/v1/{}/stock?sku={sku}", plan.brand);
        let answer = Client::new(self.site.storefront).get(&path, None).await.context("read the stock")?;
        ensure!(answer.status == http::StatusCode::OK, "{path} is answered with {}", answer.status);
        Ok((path, FixedAnswer::like(&answer)?))
    }

    /// Measures the rate of one brand's orders once, while nobody or somebody reads.
    async fn orders_beside(
        &mut self,
        readers: Readers,
        subject: &Subject,
        capacity: u64,
        beside: &mut Beside,
    ) -> Result<()> {
        let seconds = self.effort.seconds;
        // More than the bridge can place in this time, so that the callers never run out of orders.
        let count = usize::try_from(3 * capacity * (seconds + 1) / 1_000)?.max(8 * self.effort.callers);
        let (plan, options) = self.closed(count)?;
        let progress = watch::Sender::new(0);
        let settled = progress.subscribe();
        let window = async {
            sleep(HEAD_START / 2).await;
            let (before, began, ended) = (self.meter.read(), Instant::now(), cpu_of_ended_children());
            let first = *settled.borrow();
            let load = match readers {
                Readers::Nobody => {
                    sleep(Duration::from_secs(seconds)).await;
                    None
                }
                _ => Some(wrk::load(subject.address, &subject.path, seconds, READERS, 1).await?),
            };
            let (took, last) = (began.elapsed(), *settled.borrow());
            let read = cpu_of_ended_children().saturating_sub(ended);
            let used = cpu::said(&self.meter.cores(&before, Some(("readers", read))));
            let reads = load.map_or(0, |load| load.per_second);
            let per_second = rate((last - first) as u64, took);
            let (orders, reads, side) = (decimal(per_second), decimal(reads), readers.said());
            let note = format!("{side}: {orders} orders/s and {reads} reads/s; {used}");
            anyhow::Ok((per_second, note))
        };
        // The orders are not waited for: all that are under way end with their callers.
        let (per_second, note) = tokio::select! {
            measured = window => measured?,
            report = replay_watched(&plan, &options, progress) => {
                anyhow::bail!("{} orders were over too early", report.settled.len())
            }
        };
        let [nobody, of_bridge, of_bare] = &mut beside.per_second;
        match readers {
            Readers::Nobody => nobody,
            Readers::OfBridge => of_bridge,
            Readers::OfTheBareServer => of_bare,
        }
        .push(per_second);
        beside.notes.push(note);
        Ok(())
    }
}

impl Readers {
    fn said(self) -> &'static str {
        match self {
            Readers::Nobody => "no readers",
            Readers::OfBridge => "readers of Bridge",
            Readers::OfTheBareServer => "readers of a bare server",
        }
    }
}

/// Makes a few orders of a brand.
fn plan_of(brand: &str) -> Plan {
    let mut plan = generated::spread(brand, SEED, ORDERS);
    // The orders are of the first SKUs, one each.
    plan.stock.truncate(ORDERS);
    plan.stock.iter_mut().for_each(|row| row.quantity = AMPLE);
    plan
}

/// Imports the stock of all brands from one file.
async fn import(site: &Site, plans: &[Plan]) -> Result<()> {
    let mut text = Vec::new();
    for plan in plans {
        let csv = plan.stock_csv()?;
        let head = csv.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        text.extend_from_slice(if text.is_empty() { &csv } else { csv.get(head..).unwrap_or_default() });
    }
    let path = site.idc_dir().join("stock.csv");
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    site.idc_command(&["stock", "import", &path.display().to_string()]).await.context("import the stock")?;
    Ok(())
}

fn rows(quiet: &Quiet, beside: &Beside) -> Vec<Row> {
    const ALONE: &str = "without the floods";
    let us = |report: &arrivals::Report, permille| {
        u64::try_from(report.latency.quantile(permille).as_micros()).unwrap_or(u64::MAX)
    };
    let latency = |permille| {
        let both = quiet.alone.iter().zip(&quiet.flooded);
        both.map(|(alone, flooded)| Pair { baseline: us(alone, permille), bridge: us(flooded, permille) })
            .collect()
    };
    let [alone, flooded, floods] = [&quiet.alone, &quiet.flooded, &quiet.floods].map(|reports| {
        let mut sum = arrivals::Report::default();
        reports.iter().for_each(|report| sum.merge(report));
        sum
    });
    let lost = |sum: &arrivals::Report| (sum.sent - sum.placed) * 1_000;
    let said = |what: &str, sum: &arrivals::Report| {
        let arrivals::Report { sent, placed, refused, open, other, .. } = sum;
        format!(
            "{what}: {sent} orders, {placed} placed, {refused} refused, {open} of unknown outcome, {other} other"
        )
    };
    let notes = [
        said("quiet brands alone", &alone),
        said("quiet brands beside the floods", &flooded),
        said("floods", &floods),
    ];
    let [nobody, of_bridge, of_bare] = &beside.per_second;
    let rates = |baseline: &[u64]| {
        let both = baseline.iter().zip(of_bridge);
        both.map(|(baseline, bridge)| Pair { baseline: *baseline, bridge: *bridge }).collect()
    };
    // All rounds together: one order that was refused in one round is one too many.
    let refused = vec![Pair { baseline: lost(&alone), bridge: lost(&flooded) }];
    let (none, tenth) = (Some(Target::Bridge(0)), Some(Target::RatioAtLeast(900)));
    vec![
        Row::of_medians("fairness_p99_vs_alone", ALONE, "ms", latency(990), Some(Target::Ratio(1_300))),
        Row::of_medians("fairness_p50_vs_alone", ALONE, "ms", latency(500), None),
        Row::of_medians("fairness_refused_below_weight", ALONE, "orders not placed", refused, none)
            .noting(notes),
        Row::of_medians("orders_beside_readers", "no readers", "orders/s", rates(nobody), tenth)
            .noting(beside.notes.iter().cloned()),
        Row::of_medians(
            "orders_beside_readers_vs_bare",
            "readers of a bare server",
            "orders/s",
            rates(of_bare),
            None,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(sent: u64, placed: u64, latency_ms: u64) -> arrivals::Report {
        let mut report = arrivals::Report { sent, placed, refused: sent - placed, ..Default::default() };
        (0..placed).for_each(|_| report.latency.record(Duration::from_millis(latency_ms)));
        report
    }

    #[test]
    fn one_refused_order_in_one_round_is_one_too_many() {
        let mut quiet = Quiet::default();
        for round in 0..5 {
            quiet.alone.push(report(100, 100, 20));
            quiet.flooded.push(report(100, if round == 2 { 99 } else { 100 }, 24));
            quiet.floods.push(report(1_000, 300, 500));
        }
        let beside =
            Beside { per_second: [vec![4_000_000], vec![3_700_000], vec![3_800_000]], notes: Vec::new() };
        let rows = rows(&quiet, &beside);
        let reached: Vec<_> = rows.iter().map(|row| (row.name, row.reached())).collect();
        let expected = [
            ("fairness_p99_vs_alone", Some(true)),
            ("fairness_p50_vs_alone", None),
            ("fairness_refused_below_weight", Some(false)),
            ("orders_beside_readers", Some(true)),
            ("orders_beside_readers_vs_bare", None),
        ];
        assert_eq!(reached, expected);
        assert_eq!((rows[2].baseline(), rows[2].bridge()), (0, 1_000));
        assert!(rows[2].notes[2].contains("5000 orders, 1500 placed, 3500 refused"), "{:?}", rows[2].notes);
    }

    #[test]
    fn a_brands_orders_are_of_skus_that_it_has() {
        let plan = plan_of("brand-001");
        assert_eq!((plan.places().count(), plan.stock.len()), (ORDERS, ORDERS));
        assert!(plan.places().all(|(_, order)| order.lines.iter().all(|line| line.stock < ORDERS)));
    }
}
