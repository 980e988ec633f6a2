//! A launch's page views: a calm, a step to thirty times the calm that holds for a minute, and a
//! decay, with orders all the while; Bridge against a bare server.
//!
//! A page view is two reads, of the product and of its stock. It begins at its moment, whatever has
//! been answered, and its latency counts from that moment. Both servers get the same page views at
//! the same moments. The bare server has both answers in memory, so it shows what kernel and
//! generator can do on this machine. Bridge places orders of the viewed product in both turns, so
//! both servers share the cores with the same other work.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Pid;
use tokio::time::sleep;

use super::bare::FixedAnswer;
use super::bridge::{self, BRAND, Product};
use super::cpu::{self, CpuShares, Meter};
use super::draw::Draw;
use super::machine::cores;
use super::peers;
use super::progress::{Progress, tell};
use super::report::decimal;
use super::row::{Pair, Row, Target};
use super::server::{PRODUCT, Server};
use crate::testkit::arrivals::{self, Arrivals, Order};
use crate::testkit::http::Client;
use crate::testkit::personal::Person;
use crate::testkit::plan::{Line, OrderStep, Plan, Step, StockRow};
use crate::testkit::postgres::Postgres;
use crate::testkit::proc_stat::{cpu_of_thread, resident};
use crate::testkit::site::{Bridge, Setup, Site};
use crate::testkit::traffic::{Course, Curve, SURGE};
use crate::testkit::views::{self, Page, Traffic};
use crate::tools::plot::{Plot, Scale, Series, Shape};

/// The real surge. It may be missing on this machine.
const SURGE_DATA: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/traffic/event-surge-5min.csv.gz");
/// Connections of the page views, and most page views that wait for one: a second of the peak.
const CONNECTIONS: usize = 256;
const QUEUE: usize = 20_000;
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections of the orders.
const BUYERS: usize = 256;
/// Resolution of the plots.
const SLICE: Duration = Duration::from_millis(250);
/// Time until the first moment. All threads have started by then.
const START_AFTER: Duration = Duration::from_millis(200);
/// Time from the last page view until the memory is read.
const REST: Duration = Duration::from_secs(2);
/// Interval at which the memory is read.
const MEMORY_EVERY: Duration = Duration::from_millis(100);
/// A generator that uses more of its core than this is the limit, in thousandths.
const BUSY: u64 = 900;
const SEED: u64 = 7;

/// Duration and number of the measurements.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Number of rounds.
    pub rounds: usize,
    /// Duration of the calm.
    pub calm: Duration,
    /// Duration of the peak.
    pub held: Duration,
    /// Duration of the decay.
    pub decay: Duration,
    /// Page views a second in the calm.
    pub calm_per_s: u64,
    /// Orders a second, in the calm and in the launch.
    pub orders_per_s: u64,
    /// Products of the catalogue.
    pub products: usize,
}

/// Servers, page and course of all turns.
struct Stage {
    site: Site,
    bridge: Bridge,
    bare: Server,
    product: Product,
    course: Course,
    meter: Meter,
    cloud: Pid,
    effort: Effort,
    runs: u64,
}

/// Result of one side in one round.
struct Turn {
    views: views::Report,
    orders: arrivals::Report,
    used: Used,
    /// Memory of the cloud agent, in bytes.
    memory: Memory,
}

/// CPU time in the peak, in thousandths of a core.
#[derive(Clone, Debug, Default)]
struct Used {
    cores: CpuShares,
    /// Part of the thread that drives the connections of the page views.
    generator: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    calm: u64,
    /// The highest in the launch.
    peak: u64,
    after: u64,
}

/// All rounds of both sides.
#[derive(Default)]
struct Turns {
    bare: Vec<Turn>,
    bridge: Vec<Turn>,
}

/// Measures all rows and their plots. `program` is the program that has the command `serve-bare`.
/// Both servers use the folder `dir`.
///
/// # Errors
///
/// Fails if a server cannot be started.
pub async fn measure(
    program: &Path,
    dir: &Path,
    effort: Effort,
    draw: &mut Draw,
) -> Result<(Vec<Row>, Vec<Plot>)> {
    let cluster = Box::pin(Postgres::start_with(peers::source())).await?;
    let mut stage = Box::pin(Stage::open(&cluster, program, dir, effort)).await?;
    let progress = Progress::of("surge", 2 * effort.rounds);
    let mut turns = Turns::default();
    for _ in 0..effort.rounds {
        for is_bridge in draw.order(&[false, true]) {
            let turn = Box::pin(stage.turn(is_bridge)).await?;
            if is_bridge { &mut turns.bridge } else { &mut turns.bare }.push(turn);
            progress.step();
        }
    }
    Ok((turns.rows(&stage.course), turns.plots(&stage.course)))
}

impl Stage {
    async fn open(cluster: &Postgres, program: &Path, dir: &Path, effort: Effort) -> Result<Stage> {
        let database = cluster.create_database("bridge").await?;
        let setup = Setup { tapped: false, ..Setup::default() };
        let site = bridge::site(dir, database, effort.products, setup).await?;
        let mut bridge = site.start().await?;
        let product = bridge::product_of(&site, &mut bridge.cloud, 1_400).await?;
        let answer = FixedAnswer::like(&product.answer)?;
        let path = format!("/v1/{BRAND}/stock?sku={}", product.sku);
        let stock = Client::new(site.storefront).get(&path, None).await.context("read the stock")?;
        ensure!(stock.status == http::StatusCode::OK, "{path} is answered with {}", stock.status);
        let stock = FixedAnswer::like(&stock)?;
        let bare = Server::bare_page(program, dir, &answer, &stock, cores()).await?;
        let pid = |agent: &crate::testkit::process::Running| agent.pid().context("an agent has ended");
        let (cloud, idc) = (pid(&bridge.cloud)?, pid(&bridge.idc)?);
        let server = cluster.server().context("PostgreSQL has ended")?;
        let roots = vec![
            ("cloud agent", cloud),
            ("IDC agent", idc),
            ("PostgreSQL", server),
            ("bare server", bare.asked_for(PRODUCT).pid),
        ];
        let data = Path::new(SURGE_DATA);
        let curve = if data.is_file() { Curve::read(data)? } else { Curve::built_in() };
        let course = Course::new(curve, effort.calm, effort.decay).holding(effort.held);
        tell(&format!(
            "{} page views a second, then {SURGE} times as many for {:?}; {} orders a second",
            effort.calm_per_s, effort.held, effort.orders_per_s
        ));
        let meter = Meter::of(roots);
        Ok(Stage { site, bridge, bare, product, course, meter, cloud, effort, runs: 0 })
    }

    /// Runs the whole course once, with one of both servers.
    async fn turn(&mut self, is_bridge: bool) -> Result<Turn> {
        self.runs += 1;
        let storefront = if is_bridge { self.site.storefront } else { self.bare.asked_for(PRODUCT).address };
        let page = Page::new(BRAND, &self.product.code, &[&self.product.sku]);
        let moments = self.course.arrivals(self.effort.calm_per_s, SEED);
        let views = moments.into_iter().map(|at| (at, 0)).collect();
        let traffic = Arc::new(Traffic { pages: vec![page], views });
        let options = views::Options {
            storefront,
            connections: CONNECTIONS,
            queue: QUEUE,
            patience: PATIENCE,
            slice: SLICE,
        };
        let orders = self.orders()?;
        let started = Instant::now() + START_AFTER;
        let viewing = views::start(traffic, options, started).context("start the page views")?;
        let buyers = arrivals::Options {
            storefront: self.site.storefront,
            connections: BUYERS,
            patience: PATIENCE,
            keys: format!("surge-{}", self.runs),
        };
        let buying = arrivals::start(Arc::new(orders), buyers, started).context("start the orders")?;
        let (used, mut memory) = self.watch(started).await?;
        let views = viewing.finish().await.context("the page views ended without a report")?;
        let orders = buying.finish().await.context("the orders ended without a report")?;
        sleep(REST).await;
        memory.after = self.resident()?;
        let log = self.bridge.cloud.log().display();
        ensure!(orders.placed > 0, "no order was placed: see {log}");
        Ok(Turn { views, orders, used, memory })
    }

    /// Makes orders of the viewed product, evenly over the whole course.
    fn orders(&self) -> Result<Arrivals> {
        let json = self.product.answer.json();
        let price = json.pointer("/variants/0/price/amount").and_then(serde_json::Value::as_u64);
        let price_minor = price.context("the product has no price")?;
        let row = StockRow { sku: self.product.sku.clone(), price_minor, quantity: 0 };
        let (brand, currency) = (BRAND.to_owned(), bridge::CURRENCY);
        let plan = Plan { brand, currency, stock: vec![row], steps: Vec::new() };
        let line = vec![Line { stock: 0, quantity: 1 }];
        let person = Person::made_up(SEED, 0, "c-1".to_owned());
        let Step::Place(OrderStep { body, .. }) = plan.place(String::new(), line, 0, &person) else {
            anyhow::bail!("an order is a step that places one")
        };
        let length = self.course.length();
        let count = u64::try_from(u128::from(self.effort.orders_per_s) * length.as_millis() / 1_000)?;
        let even = Course::new(Curve::flat(), length / 2, length / 2);
        let moments = even.moments(count, SEED + self.runs).into_iter().map(|at| (at, 0)).collect();
        Ok(Arrivals { orders: vec![Order::new(BRAND, self.site.token(BRAND), &body)], moments })
    }

    /// Reads CPU times of the peak, and the memory until the end of the course.
    async fn watch(&self, started: Instant) -> Result<(Used, Memory)> {
        let Course { calm, held, .. } = self.course;
        let mut memory = Memory::default();
        let mut before = None;
        let mut used = None;
        while started.elapsed() < self.course.length() {
            let at = Instant::now().saturating_duration_since(started);
            let now = self.resident()?;
            if at < calm {
                memory.calm = now;
            } else {
                memory.peak = memory.peak.max(now);
            }
            if at >= calm && before.is_none() {
                before = Some((self.meter.read(), generator(), Instant::now()));
            }
            if let (true, None, Some((reading, own, since))) = (at >= calm + held, &used, &before) {
                let own = generator().saturating_sub(*own);
                let busy = own.as_micros() * 1_000 / since.elapsed().as_micros().max(1);
                let cores = self.meter.cores(reading, None);
                used = Some(Used { cores, generator: u64::try_from(busy).unwrap_or(u64::MAX) });
            }
            sleep(MEMORY_EVERY).await;
        }
        Ok((used.unwrap_or_default(), memory))
    }

    fn resident(&self) -> Result<u64> {
        resident(self.cloud).context("the cloud agent has ended")
    }
}

/// The thread that drives the connections of the page views: see [`views`].
const THREAD: &str = "browsers";

/// Returns the CPU time of the generator of page views.
fn generator() -> Duration {
    cpu_of_thread(THREAD).unwrap_or_default()
}

impl Turn {
    /// Returns the page views of a minute of the peak that were answered well, in thousandths.
    fn views_per_min(&self, course: &Course) -> u64 {
        let (from, to) = (course.calm, course.calm + course.held);
        self.views.reads_per_s(from, to) * 60 * 1_000 / 2
    }

    fn p99_us(&self, course: &Course) -> u64 {
        let (from, to) = (course.calm, course.calm + course.held);
        let latency = self.views.read_latency_between(from, to);
        u64::try_from(latency.quantile(990).as_micros()).unwrap_or(u64::MAX)
    }

    /// Returns the committed orders a second between two moments, in thousandths.
    fn orders_per_s(&self, from: Duration, to: Duration) -> u64 {
        let second = |at: Duration| usize::try_from(at.as_secs()).unwrap_or(usize::MAX);
        let (from, to) = (second(from), second(to).min(self.orders.placed_in_second.len()));
        let placed: u64 = self.orders.placed_in_second.get(from..to).unwrap_or_default().iter().sum();
        placed * 1_000 / (to.saturating_sub(from) as u64).max(1)
    }

    fn note(&self, side: &str) -> String {
        let Used { cores, generator } = &self.used;
        let limit = if *generator > BUSY { "; THE GENERATOR WAS THE LIMIT" } else { "" };
        let flaws = self.views.flaws.iter().map(|(flaw, count)| format!("{count} {flaw}"));
        let flaws: Vec<_> = flaws.collect();
        let flaws = if flaws.is_empty() { "no error".to_owned() } else { flaws.join(", ") };
        let arrivals::Report { sent, placed, refused, open, other, .. } = &self.orders;
        format!(
            "{side} in the peak: {}; the generator's thread {} of a core{limit}; {flaws}; {placed} of {sent} orders placed, {refused} refused, {open} \
             of unknown outcome, {other} other",
            cpu::said(cores),
            decimal(*generator)
        )
    }
}

impl Turns {
    fn pairs(&self, figure: impl Fn(&Turn) -> u64) -> Vec<Pair> {
        let both = self.bare.iter().zip(&self.bridge);
        both.map(|(bare, bridge)| Pair { baseline: figure(bare), bridge: figure(bridge) }).collect()
    }

    /// Makes pairs of two figures of Bridge alone.
    fn own(&self, before: impl Fn(&Turn) -> u64, then: impl Fn(&Turn) -> u64) -> Vec<Pair> {
        self.bridge.iter().map(|turn| Pair { baseline: before(turn), bridge: then(turn) }).collect()
    }

    fn rows(&self, course: &Course) -> Vec<Row> {
        const BARE: &str = "bare server";
        const CALM: &str = "Bridge in the calm";
        let (calm, end) = (course.calm, course.calm + course.held);
        let sum = |turns: &[Turn]| turns.iter().map(|turn| turn.views.errors()).sum::<u64>() * 1_000;
        // All rounds together: one error in one round is one too many.
        let errors = vec![Pair { baseline: sum(&self.bare), bridge: sum(&self.bridge) }];
        let notes =
            |side: &'static str, turns: &[Turn]| turns.iter().map(|turn| turn.note(side)).collect::<Vec<_>>();
        let notes = notes(BARE, &self.bare).into_iter().chain(notes("Bridge", &self.bridge));
        let mib = |bytes: u64| (bytes * 1_000) >> 20;
        let memory = |figure: fn(&Memory) -> u64| {
            self.own(|turn| mib(turn.memory.calm), |turn| mib(figure(&turn.memory)))
        };
        let at_least = |least| Some(Target::BridgeAtLeast(least));
        vec![
            Row::of_medians(
                "surge_pv_per_min",
                BARE,
                "page views/min",
                self.pairs(|turn| turn.views_per_min(course)),
                at_least(1_000_000_000),
            )
            .noting(notes),
            Row::of_medians(
                "surge_read_p99_ms",
                BARE,
                "ms",
                self.pairs(|turn| turn.p99_us(course)),
                Some(Target::Bridge(10_000)),
            ),
            Row::of_medians("surge_errors", BARE, "page views", errors, Some(Target::Bridge(0))),
            Row::of_medians(
                "surge_orders_per_s",
                CALM,
                "orders/s",
                self.own(|turn| turn.orders_per_s(Duration::ZERO, calm), |turn| turn.orders_per_s(calm, end)),
                at_least(100_000),
            ),
            Row::of_medians("surge_memory_mib", CALM, "MiB", memory(|memory| memory.peak), None),
            Row::of_medians("surge_memory_after_mib", CALM, "MiB", memory(|memory| memory.after), None),
        ]
    }

    /// Plots the last round of both sides over time.
    fn plots(&self, course: &Course) -> Vec<Plot> {
        let until = course.length().as_secs();
        let both = [("bare server", self.bare.last()), ("Bridge", self.bridge.last())];
        let plot = |title: &str, unit: &str, scale, value: fn(&views::Slice) -> u64| {
            let series = both.iter().filter_map(|(name, turn)| {
                let slices = turn.as_ref()?.views.slices.iter().enumerate();
                let points = slices.map(|(index, slice)| point(index, value(slice)));
                Some(Series { name: (*name).to_owned(), shape: Shape::Line, points: points.collect() })
            });
            Plot {
                title: title.to_owned(),
                unit: unit.to_owned(),
                x_unit: "s".to_owned(),
                scale,
                series: series.collect(),
                until: seconds(until),
                from: Some((seconds(course.calm.as_secs()), "launch".to_owned())),
            }
        };
        let rate = |slice: &views::Slice| slice.reads * 1_000 / u64::try_from(SLICE.as_millis()).unwrap_or(1);
        let p99 =
            |slice: &views::Slice| u64::try_from(slice.latency.quantile(990).as_micros()).unwrap_or(u64::MAX);
        vec![
            plot("reads of the surge, last round", "reads/s", Scale::Linear, rate),
            plot("p99 of the surge's reads, last round", "us", Scale::Logarithmic, p99),
        ]
    }
}

#[expect(clippy::float_arithmetic, reason = "a picture is read by people, and decides nothing")]
fn point(slice: usize, value: u64) -> (f64, f64) {
    (slice as f64 * SLICE.as_secs_f64(), value as f64)
}

fn seconds(whole: u64) -> f64 {
    whole as f64
}
