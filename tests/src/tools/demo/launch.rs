//! The launch: page views, orders and the freshness probe at the same time, with one clock.
//!
//! Page views follow the [`Course`], and orders are proportional to them. In the calm, page views
//! show all products, and later mostly the launched ones.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;
use tokio::time::sleep;

use super::measure::callers;
use super::shop::Shop;
use super::{Options, tell};
use crate::testkit::freshness::{self, Probe};
use crate::testkit::load::{self, Pace, replay_paced};
use crate::testkit::plan::Plan;
use crate::testkit::site::Site;
use crate::testkit::traffic::{Course, Curve, SURGE};
use crate::testkit::views::{self, Page, Traffic};

/// File of the real surge. It may be missing on this machine.
const SURGE_DATA: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/traffic/event-surge-5min.csv.gz");
/// Number of the launch's page views, out of ten, that show a launched product.
const HOT_OF_TEN: u32 = 9;
/// Connections of the page views: some dozens for each serving thread of the agent.
const CONNECTIONS: usize = 64;
/// Most page views that wait for a connection. It is about a second of the peak.
const QUEUE: usize = 4_096;
const PATIENCE: Duration = Duration::from_secs(10);
/// Resolution of the plots.
const SLICE: Duration = Duration::from_millis(500);
/// Time until the first moment. All threads have started by then.
const HEAD_START: Duration = Duration::from_millis(100);

/// Results of a launch.
pub(super) struct Launch {
    pub(super) course: Course,
    pub(super) orders: load::Report,
    pub(super) views: views::Report,
    pub(super) freshness: freshness::Report,
    /// Moments at which the orders and cancellations were due.
    pub(super) due: Vec<Duration>,
    /// Number of settled orders and cancellations at each moment.
    pub(super) settled: Vec<(Duration, usize)>,
}

/// Returns the course of the page views, and a description of its shape.
pub(super) fn course(options: &Options) -> Result<(Course, &'static str)> {
    let path = Path::new(SURGE_DATA);
    let (curve, shape) = if path.is_file() {
        (Curve::read(path)?, "a real surge")
    } else {
        (Curve::built_in(), "a made-up surge")
    };
    let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
    Ok((Course::new(curve, seconds(options.calm_seconds), seconds(options.launch_seconds)), shape))
}

/// Runs the launch to its end.
pub(super) async fn run(
    options: &Options,
    site: &Site,
    shop: &Shop,
    plan: &Arc<Plan>,
    probe: Probe,
) -> Result<Launch> {
    let (course, shape) = course(options)?;
    let traffic = Arc::new(traffic(options, shop, &course));
    let due = course.moments(plan.steps.len() as u64, options.seed);
    tell(&format!(
        "{} page views: {} a second for {} s, then the launch of {} products with {SURGE} times as many, shaped like \
         {shape}; {} orders and cancellations by {} callers meanwhile",
        traffic.views.len(),
        options.page_views,
        options.calm_seconds,
        shop.hot.len(),
        plan.steps.len(),
        options.callers
    ));
    let started = Instant::now() + HEAD_START;
    let browsers = views::Options {
        storefront: site.storefront,
        connections: CONNECTIONS,
        queue: QUEUE,
        patience: PATIENCE,
        slice: SLICE,
    };
    let count = traffic.views.len();
    let viewing = views::start(traffic, browsers, started).context("start the page views")?;

    let progress = watch::Sender::new(0);
    let watching = progress.subscribe();
    let stop = watch::Sender::new(false);
    let pace = Pace { started, moments: due.clone() };
    let ordering = callers(site, plan, options.callers, "");
    let shopping = async {
        let (orders, (views, settled)) = tokio::join!(
            replay_paced(plan, &ordering, pace, progress),
            watch_both(viewing, count, watching, plan.steps.len(), started),
        );
        stop.send_replace(true);
        (orders, views, settled)
    };
    let ((orders, views, settled), freshness) = tokio::join!(shopping, probe.run(started, stop.subscribe()));
    let views = views.context("the page views ended without a report")?;
    Ok(Launch { course, orders, views, freshness: freshness?, due, settled })
}

/// Draws the page of each page view.
fn traffic(options: &Options, shop: &Shop, course: &Course) -> Traffic {
    let page = |product: &super::shop::Product| {
        let skus: Vec<_> = product.skus.iter().map(String::as_str).collect();
        Page::new(&product.brand, &product.code, &skus)
    };
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let views = course.arrivals(u64::from(options.page_views), options.seed).into_iter().map(|at| {
        let hot = at >= course.calm && rng.random_ratio(HOT_OF_TEN, 10);
        let page = match shop.hot.as_slice() {
            hot_ones @ [_, ..] if hot => hot_ones[rng.random_range(0..hot_ones.len())],
            _ => rng.random_range(0..shop.products.len()),
        };
        (at, page)
    });
    let views = views.collect();
    Traffic { pages: shop.products.iter().map(page).collect(), views }
}

/// Shows the progress of both until the last page view and the last order. Returns the number of
/// settled orders at each moment.
async fn watch_both(
    viewing: views::Running,
    views: usize,
    orders: watch::Receiver<usize>,
    orders_total: usize,
    started: Instant,
) -> (Option<views::Report>, Vec<(Duration, usize)>) {
    let bar = load::bar(views, "page views");
    let mut settled = vec![(Duration::ZERO, 0)];
    let mut next = started + SLICE;
    loop {
        let (viewed, errors) = viewing.so_far();
        let ordered = *orders.borrow();
        if Instant::now() >= next {
            settled.push((started.elapsed(), ordered));
            next += SLICE;
        }
        bar.set_position(viewed);
        bar.set_message(format!("  {ordered}/{orders_total} orders, {errors} errors"));
        if viewed >= views as u64 && ordered >= orders_total {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    bar.finish_and_clear();
    settled.push((started.elapsed(), orders_total));
    (viewing.finish().await.ok(), settled)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::shop::Product;
    use super::*;

    #[test]
    fn the_calm_views_everything_and_the_launch_mostly_launched_products() {
        let options = Options::parse_from(["demo"]);
        let product = |index| Product {
            brand: "shoes".to_owned(),
            code: format!("P{index}"),
            skus: vec![format!("P{index}-1")],
        };
        let shop = Shop { products: (0..100).map(product).collect(), hot: vec![4, 9], ..Shop::default() };
        let (course, _) = course(&options).expect("a course");
        let traffic = traffic(&options, &shop, &course);
        let (calm, launch): (Vec<_>, Vec<_>) = traffic.views.iter().partition(|(at, _)| *at < course.calm);
        let hot = |views: &[&(Duration, usize)]| {
            views.iter().filter(|(_, page)| shop.hot.contains(page)).count() * 100 / views.len()
        };
        assert!(hot(&calm) < 10 && (85..95).contains(&hot(&launch)), "{}, {}", hot(&calm), hot(&launch));
        assert!(launch.len() > 8 * calm.len());
    }
}
