//! `cargo faults`: faults in real processes under load. At the end the ledger is compared with the
//! answers that callers got.
//!
//! [`run`] is the whole command. Each fault has its own brand, so that its orders are counted
//! separately. The fault is injected again and again while they are placed. A caller behaves as a
//! careful storefront and sends an order again under the same key.

mod ballast;
mod crowds;
mod fault;
mod neighbour;
mod options;
mod report;

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::testkit::audits::{self, Audits};
use crate::testkit::database::Database;
use crate::testkit::generated;
use crate::testkit::ledger_totals::LedgerTotals;
use crate::testkit::load::{self, Pace, replay_paced};
use crate::testkit::lying_disk::HangingDisk;
use crate::testkit::payers::{self, TestGateway};
use crate::testkit::plan::{Plan, StockRow};
use crate::testkit::postgres::Postgres;
use crate::testkit::privacy::Search;
use crate::testkit::process::Programs;
use crate::testkit::sandbox::Rates;
use crate::testkit::site::{Bridge, Setup, Site, configure};
use crate::testkit::wan;
use crate::tools::command::Usage;

pub use fault::Fault;
pub use options::Options;
pub use report::{FaultResult, Report};

/// Name of the stretches without a fault. Each has a brand of its own.
const CALM: &str = "calm";
/// SKU that most orders of a plan need.
const HOT_SKU: &str = "SKU-0";
/// Time between two injections of a fault: long enough for orders to flow again.
const BETWEEN: Duration = Duration::from_secs(2);
/// Time for which a storefront would send an order again.
const PATIENCE: Duration = Duration::from_secs(60);
const CALLERS: usize = 64;
/// Size of an audit log's disk: much more than a run needs.
const DISK_BYTES: u64 = 512 << 20;
/// Number of orders of each fault that are paid, and of payments at the same time.
const PAYMENTS: usize = 300;
const PAYERS: usize = 8;

/// Injects one fault after the other. Progress goes to standard error.
///
/// # Errors
/// Fails if the run cannot be carried out. Wrong results are in the report.
pub async fn run(options: &Options) -> Result<Report> {
    ensure!(
        !options.faults().is_empty(),
        Usage("kill-database is left out with --sqlite, and nothing else was named".to_owned())
    );
    let programs = Programs::build()?;
    let dir =
        tempfile::Builder::new().prefix("bridge-faults-").tempdir().context("make a temporary folder")?;
    let mut cluster = if options.sqlite { None } else { Some(Postgres::start().await?) };
    let database = match &cluster {
        Some(cluster) => cluster.create_database("ledger").await?,
        None => Database::Sqlite(dir.path().join("idc").join("ledger.db")),
    };
    let mut faults = options.faults();
    let folders = ["cloud", "idc"].map(|side| audits::folder(&dir.path().join(side)));
    let mount = |folder| HangingDisk::mount(folder, DISK_BYTES);
    let disks: Vec<HangingDisk> =
        folders.iter().map(|folder| mount(folder)).collect::<Result<Option<_>>>()?.unwrap_or_default();
    if disks.is_empty() {
        tell("no disk is filled or hangs: this user may not mount one (root may)");
        faults.retain(|fault| !fault.is_of_a_disk());
    }
    let stretches = stretches(&faults);
    let names: Vec<String> = stretches.iter().map(Stretch::name).collect();
    let beside: Vec<String> = names.iter().map(|name| neighbour::brand(name)).collect();
    let brands = names.iter().chain(&beside).map(String::as_str);
    let brands: Vec<_> = brands.map(|brand| (brand, "KRW")).collect();
    let lack = wan::lacks();
    if let Some(lack) = lack {
        tell(&format!("the line is a relay of datagrams: there is no WAN of IP packets without {lack}"));
    }
    let setup = Setup { frames: true, wan: lack.is_none(), ..Setup::default() };
    let site = Site::set_up(dir.path(), programs, database, &brands, options.seed, setup).await?;
    let each = Duration::from_secs(60 * u64::from(options.minutes)) / u32::try_from(stretches.len())?;
    let plans: Vec<Arc<Plan>> = names.iter().map(|name| Arc::new(plan(name, options, each))).collect();
    let neighbours: Vec<Arc<Plan>> =
        beside.iter().map(|brand| Arc::new(neighbour::plan(brand, options.seed, each))).collect();
    for plan in plans.iter().chain(&neighbours) {
        site.import(plan).await?;
    }
    let configurations = [site.cloud_dir().join("bridge-cloud.toml"), site.idc_dir().join("bridge-idc.toml")];
    for configuration in &configurations {
        configure(configuration, "audit.write_within", format!("{}ms", fault::WRITE_WITHIN.as_millis()))?;
    }
    let gateway = TestGateway::open(&site, Rates::default()).await?;
    let mut bridge = site.start().await?;
    let mut report = Report { seed: options.seed, ..Report::default() };
    let mut beside = Vec::new();
    for (((stretch, name), plan), neighbour) in stretches.into_iter().zip(names).zip(&plans).zip(&neighbours)
    {
        tell(&format!("{name}: {} orders", plan.places().count()));
        let Stretch::Fault(fault) = stretch else {
            let orders = neighbour::with(neighbour, &site, under_calm(plan, options, &site)).await?;
            beside.push((None, orders));
            continue;
        };
        let (site, gateway, bridge, cluster) = (&site, &gateway, &mut bridge, cluster.as_mut());
        let breaker = FaultInjector { fault, site, gateway, bridge, disks: &disks, cluster, times: 0 };
        let mut struck = None;
        let load = async {
            struck = Some(Box::pin(under_load(plan, options, breaker)).await?);
            Ok(())
        };
        beside.push((Some(fault), neighbour::with(neighbour, site, load).await?));
        report.add(fault, struck.context("a fault that ended")?);
    }
    report.take_neighbours(&beside);
    tell("searching memory, frames and files for the planted personal values");
    let mut privacy = Search::of_plans(plans.iter().map(Arc::as_ref));
    privacy.while_they_run(&site, &bridge).await?;
    for agent in [&mut bridge.cloud, &mut bridge.idc] {
        agent.terminate().await?;
    }
    privacy.what_is_left(&site, cluster.as_ref())?;
    report.privacy = privacy.end();
    report.personal_values_found = report.privacy.found();
    tell("verifying and comparing both audit logs");
    report.audits = Audits::of(&site).await?;
    Ok(report)
}

/// A stretch of time of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stretch {
    /// Nothing goes wrong. The number tells such stretches apart.
    Calm(usize),
    Fault(Fault),
}

impl Stretch {
    fn name(&self) -> String {
        match self {
            Stretch::Calm(number) => format!("{CALM}-{number}"),
            Stretch::Fault(fault) => fault.name().to_owned(),
        }
    }
}

/// Returns the stretches of a run. A fault that must not affect another brand has a calm one before
/// it and one after it, because the machine's own speed changes from minute to minute.
fn stretches(faults: &[Fault]) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut calms = 0..;
    let mut calm = || Stretch::Calm(calms.next().unwrap_or_default() + 1);
    for fault in faults {
        if fault.spares_others() && !matches!(stretches.last(), Some(Stretch::Calm(_))) {
            stretches.push(calm());
        }
        stretches.push(Stretch::Fault(*fault));
        if fault.spares_others() {
            stretches.push(calm());
        }
    }
    stretches
}

/// Returns the plan of a fault's orders at the chosen rate. A tenth of its stock is scarce, so that
/// overselling is possible.
fn plan(brand: &str, options: &Options, each: Duration) -> Plan {
    let orders = (u64::from(options.rate) * each.as_secs()).max(1);
    let row = |index: usize| StockRow { sku: format!("SKU-{index}"), price_minor: 1_000, quantity: orders };
    let stock = (0..10).map(row).collect();
    generated::launch_of(brand, stock, &[0], options.seed, usize::try_from(orders).unwrap_or(usize::MAX))
}

/// Places the orders of a plan without a fault.
async fn under_calm(plan: &Arc<Plan>, options: &Options, site: &Site) -> Result<()> {
    let (callers, pace) = load_of(plan, options.rate, site);
    let told = replay_paced(plan, &callers, pace, watch::Sender::new(0)).await;
    ensure!(told.tally().unknown == 0, "orders are left open while nothing goes wrong");
    Ok(())
}

/// Returns the callers of a plan, and the moments of its orders at `rate` orders per second.
fn load_of(plan: &Plan, rate: u32, site: &Site) -> (load::Options, Pace) {
    let callers = load::Options {
        storefront: site.storefront,
        token: site.token(&plan.brand).to_owned(),
        callers: CALLERS,
        patience: PATIENCE,
        title: plan.brand.clone(),
    };
    let moment = |index: usize| Duration::from_secs(1) * u32::try_from(index).unwrap_or(u32::MAX) / rate;
    let moments = (0..plan.steps.len()).map(moment).collect();
    (callers, Pace { started: Instant::now(), moments })
}

/// Injects one fault into one site.
struct FaultInjector<'a> {
    fault: Fault,
    site: &'a Site,
    gateway: &'a TestGateway,
    bridge: &'a mut Bridge,
    disks: &'a [HangingDisk],
    cluster: Option<&'a mut Postgres>,
    times: u32,
}

impl FaultInjector<'_> {
    /// Injects the fault again and again until nine tenths of the requests are settled. The last
    /// ones end without a fault, so that none stays open for lack of time.
    async fn strike(&mut self, settled: watch::Receiver<usize>, all: usize) -> Result<()> {
        while *settled.borrow() < all - all / 10 {
            sleep(BETWEEN).await;
            let FaultInjector { fault, site, gateway, bridge, disks, cluster, .. } = self;
            let struck = fault.strike(site, gateway, bridge, disks, cluster.as_deref_mut()).await;
            struck.with_context(|| fault.name())?;
            self.times += 1;
        }
        Ok(())
    }
}

/// Places the orders of a plan while the fault is injected, has some of them paid under the same
/// fault, and compares the ledger.
async fn under_load(
    plan: &Arc<Plan>,
    options: &Options,
    mut breaker: FaultInjector<'_>,
) -> Result<FaultResult> {
    let (site, gateway, name) = (breaker.site, breaker.gateway, breaker.fault.name());
    let (callers, pace) = load_of(plan, options.rate, site);
    let progress = watch::Sender::new(0);
    let strikes = breaker.strike(progress.subscribe(), plan.steps.len());
    let (told, struck) = tokio::join!(replay_paced(plan, &callers, pace, progress.clone()), strikes);
    struck?;

    let mut bills = payers::bills(&told);
    bills.truncate(PAYMENTS);
    let (progress, all) = (watch::Sender::new(0), bills.len());
    let strikes = breaker.strike(progress.subscribe(), all);
    let payments = gateway.pay(site, name, bills, PAYERS, PATIENCE, progress.clone());
    let (paid, struck) = tokio::join!(payments, strikes);
    struck?;
    let books = LedgerTotals::read(site.database(), name).await?;
    Ok(FaultResult::judge(breaker.times, &told, paid, &books))
}

fn tell(what: &str) {
    let _nobody_listens = writeln!(std::io::stderr(), "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_must_not_be_felt_lies_between_two_calm_stretches() {
        let all = stretches(&[Fault::KillIdc, Fault::HeldRow, Fault::LookUps, Fault::KillCloud]);
        let names: Vec<String> = all.iter().map(Stretch::name).collect();
        assert_eq!(names, ["kill-idc", "calm-1", "held-row", "calm-2", "look-ups", "calm-3", "kill-cloud"]);
    }
}
