//! `cargo demo`: a whole bridge on this machine, a launch on it, and a report of the results.
//!
//! [`run`] runs all steps in order. `options` has the command line, `shop` the offers. `launch`,
//! `measure` and `replica` are longer steps. `report` has the results, which `text` and `page`
//! show. The demo is set up through [`Site`] with the commands that an operator uses.

mod demo_catalogue;
mod first_build;
mod launch;
mod measure;
mod options;
mod page;
mod replica;
mod report;
mod shop;
mod text;

use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::testkit::audits::Audits;
use crate::testkit::database::Database;
use crate::testkit::freshness::Probe;
use crate::testkit::generated;
use crate::testkit::http::percent_encoded;
use crate::testkit::ledger_totals::LedgerTotals;
use crate::testkit::load::{self, replay};
use crate::testkit::payers::{self, Paid, TestGateway};
use crate::testkit::plan::{Line, Plan, StockRow};
use crate::testkit::postgres::Postgres;
use crate::testkit::privacy::Search;
use crate::testkit::process::{Programs, Running};
use crate::testkit::sandbox;
use crate::testkit::site::{Bridge, Setup, Site};

pub use options::Options;
pub use report::Report;

use launch::Launch;
use measure::{Commits, Rates, callers};
use report::Findings;
use shop::{Input, Shop};

/// Orders that one caller places one after the other.
const LONELY_ORDERS: usize = 300;
/// Brand and SKU whose stock the freshness probe changes.
const PROBE: &str = "probe";
/// Orders of the launch that are paid.
const PAYMENTS: usize = 400;
/// Shoppers who pay at the same time.
const PAYERS: usize = 16;
/// Longest time for one payment.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rates of the gateway's faults, in a thousand requests.
const MISBEHAVING: sandbox::Rates = sandbox::Rates {
    seed: 0,
    decline: 50,
    hang_before: 10,
    hang_after: 10,
    fail_before: 20,
    fail_after: 150,
};
/// Pause between two changes of the freshness probe.
const PROBE_PAUSE: Duration = Duration::from_millis(50);

/// Runs the demo and returns its report. Progress goes to standard error.
///
/// # Errors
///
/// Fails if a step cannot be done at all, or the demo is interrupted. A wrong result is no error,
/// but part of the report.
pub async fn run(options: &Options) -> Result<Report> {
    let show = unless_interrupted(play(options)).await?;
    if options.keep {
        show.stay_up()?;
        interrupted().await?;
    }
    unless_interrupted(show.judge(options)).await
}

/// A demo that has run all its steps and still stays up.
struct Show {
    /// Deleted last, after the processes that write into it have ended.
    dir: TempDir,
    cluster: Option<Postgres>,
    site: Site,
    bridge: Bridge,
    /// Time of the build, if it was the first one.
    first_build: Option<Duration>,
    shop: Shop,
    plans: [Arc<Plan>; 4],
    input: Input,
    launch: Launch,
    paid: Paid,
    /// The gateway. With `--keep` it continues to answer.
    _gateway: TestGateway,
    again: load::Report,
    commits: Commits,
    rates: Rates,
    /// Totals that the ledger has.
    books: LedgerTotals,
    /// Differences between the ledger and the answers to callers.
    differences: Vec<String>,
    /// Differences between the ledger and the replica.
    replica_differences: Vec<String>,
    /// Results of the search while the agents ran. The files are searched at the end.
    privacy: Search,
}

async fn play(options: &Options) -> Result<Show> {
    options.check()?;
    tell("planning the catalogue and the orders");
    let (shop, plan, input) = shop::open(options)?;
    tell("building the agents");
    let programs = Programs::build()?;
    let first_build = first_build::first_build()?;
    if let Some(took) = first_build {
        tell(&format!("built in {} s, counted from the moment the target folder was made", took.as_secs()));
    }
    let dir = tempfile::Builder::new().prefix("bridge-demo-").tempdir().context("make a temporary folder")?;

    let orders = options.orders as usize;
    let hot = generated::hot(options.seed, orders);
    let spread = generated::spread("spread", options.seed, orders);
    let lonely = generated::spread("lonely", options.seed, LONELY_ORDERS);
    let plans = [plan, hot, spread, lonely].map(Arc::new);
    let [plan, hot, spread, lonely] = &plans;

    tell("setting up certificates, keys, configuration and the database");
    let (database, cluster) = database(options, &dir).await?;
    let mut brands: Vec<_> =
        shop.brands.iter().map(|(brand, currency)| (brand.as_str(), currency.as_str())).collect();
    brands.extend([hot, spread, lonely].map(|plan| (plan.brand.as_str(), plan.currency)));
    brands.push((PROBE, "KRW"));
    let setup = Setup { frames: true, ..Setup::default() };
    let site = Site::set_up(dir.path(), programs, database, &brands, options.seed, setup).await?;
    let before = LedgerTotals::read(site.database(), &plan.brand).await?;
    ensure!(
        before == LedgerTotals::default(),
        "the database holds orders or stock already: give the demo an empty one"
    );
    tell(&format!("importing {} products with {} SKUs", shop.products.len(), shop.skus()));
    shop.import(&site).await?;
    for plan in plans.iter().map(Arc::as_ref).chain([&probed()]) {
        site.import(plan).await?;
    }

    let gateway = TestGateway::open(&site, sandbox::Rates { seed: options.seed, ..MISBEHAVING }).await?;

    tell("starting both agents");
    let bridge = site.start().await?;
    let probe = probe(&site);
    probe.settle().await?;

    let idle = measure::commits(&bridge.idc).await?;
    // Boxed, because this future is large.
    let launch = Box::pin(launch::run(options, &site, &shop, plan, probe)).await?;
    let commits = measure::commits(&bridge.idc).await?.since(&idle);
    let paid = Box::pin(paying(&gateway, &site, &bridge.cloud, plan, &launch.orders)).await?;
    tell("repeating the same steps under the same keys");
    let again = replay(plan, &callers(&site, plan, options.callers, "again")).await;

    tell("measuring a hot SKU, spread SKUs, and a single caller");
    let rates = measure::rates(&site, &bridge, [hot, spread, lonely], options.callers).await?;

    tell("comparing the ledger with the answers to callers and with the replica");
    let actual = LedgerTotals::read(site.database(), &plan.brand).await?;
    let differences = LedgerTotals::expected(&launch.orders).differences(&actual);
    let replica_differences = replica::differences(&site, plan, &actual).await?;
    tell("searching both agents' memory for the planted personal values");
    let mut privacy = Search::of_plans(plans.iter().map(Arc::as_ref));
    privacy.while_they_run(&site, &bridge).await?;
    Ok(Show {
        dir,
        cluster,
        site,
        bridge,
        first_build,
        shop,
        plans,
        input,
        launch,
        paid,
        _gateway: gateway,
        again,
        commits,
        rates,
        books: actual,
        differences,
        replica_differences,
        privacy,
    })
}

/// Pays the launch's orders at a gateway with faults. The line is cut in the middle.
async fn paying(
    gateway: &TestGateway,
    site: &Site,
    cloud: &Running,
    plan: &Plan,
    told: &load::Report,
) -> Result<Paid> {
    let mut bills = payers::bills(told);
    bills.truncate(PAYMENTS);
    let all = bills.len();
    tell(&format!(
        "{all} payments at a gateway that declines, hangs, and takes money and then says that it failed; the line is cut meanwhile"
    ));
    let progress = watch::Sender::new(0);
    let mut settled = progress.subscribe();
    let cut = async {
        settled.wait_for(|settled| *settled >= all / 2).await.context("the payers have ended")?;
        site.cut_line(cloud).await
    };
    let (paid, cut) =
        tokio::join!(gateway.pay(site, &plan.brand, bills, PAYERS, PATIENCE, progress.clone()), cut);
    cut?;
    Ok(paid)
}

/// Returns a plan with the stock that the freshness probe changes.
fn probed() -> Plan {
    let stock = vec![StockRow { sku: PROBE.to_owned(), price_minor: 1_000, quantity: 1 }];
    Plan { brand: PROBE.to_owned(), currency: "KRW", stock, steps: Vec::new() }
}

fn probe(site: &Site) -> Probe {
    Probe {
        database: site.database().clone(),
        storefront: site.storefront,
        brand: PROBE.to_owned(),
        sku: PROBE.to_owned(),
        pause: PROBE_PAUSE,
    }
}

impl Show {
    /// Prints how to call the bridge while it stays up.
    fn stay_up(&self) -> Result<()> {
        let [plan, ..] = &self.plans;
        let (brand, token, storefront) = (&plan.brand, self.site.token(&plan.brand), self.site.storefront);
        let order = self.dir.path().join("order.json");
        let left = |sku: &str| self.books.stock.get(sku).map_or(0, |shelf| shelf.available);
        let is_left = |line: &Line| {
            let units = plan.stock.get(line.stock).map_or(0, |row| left(&row.sku));
            u64::try_from(units).is_ok_and(|units| units >= line.quantity)
        };
        let place = plan.places().find(|(_, place)| place.lines.iter().all(is_left));
        let body = place.map(|(_, place)| place.body.clone()).unwrap_or_default();
        std::fs::write(&order, body).with_context(|| format!("write {}", order.display()))?;
        // The launch may have sold out its own SKUs, so the text names the SKU with the most units
        // left.
        let skus =
            self.shop.products.iter().flat_map(|product| product.skus.iter().map(move |sku| (product, sku)));
        let most = skus.max_by_key(|(_, sku)| left(sku));
        let (product, sku) =
            most.map(|(product, sku)| (percent_encoded(&product.code), sku.clone())).unwrap_or_default();
        let price = plan.stock.iter().find(|row| row.sku == sku).map_or(0, |row| row.price_minor);
        let sku_in_query = percent_encoded(&sku);
        tell(&format!(
            "staying up until Ctrl-C; configuration and logs are in {}\n\
             for the commands of docs/storefront.md:\n\
             export BRIDGE=http://{storefront} TOKEN={token} PRODUCT={product} SKU={sku} PRICE={price}\n\
             curl -i http://{storefront}/v1/{brand}/products/{product}\n\
             curl 'http://{storefront}/v1/{brand}/products?sort=price&limit=5'\n\
             curl http://{storefront}/v1/{brand}/categories\n\
             curl 'http://{storefront}/v1/{brand}/stock?sku={sku_in_query}'\n\
             curl -i http://{storefront}/v1/{brand}/orders -H 'Authorization: Bearer {token}' \
             -H 'Idempotency-Key: mine-1' --json @{}\n\
             curl http://{}/metrics http://{}/metrics",
            self.dir.path().display(),
            order.display(),
            self.site.cloud.admin,
            self.site.idc.admin
        ));
        Ok(())
    }

    /// Ends both agents, searches their files, and writes the report.
    async fn judge(mut self, options: &Options) -> Result<Report> {
        let (cloud, idc) =
            (end(&mut self.bridge.cloud, options).await?, end(&mut self.bridge.idc, options).await?);
        tell("verifying and comparing both audit logs");
        let audits = Audits::of(&self.site).await?;
        tell("searching the frames before TLS and every file for the planted values");
        self.privacy.what_is_left(&self.site, self.cluster.as_ref())?;
        let html = options.html.clone().map_or_else(default_html, Ok)?;
        let timeline = page::Timeline::of(&self.launch);
        let report = Report::new(
            options,
            Findings {
                input: self.input,
                database: self.site.database().kind(),
                first_build: self.first_build,
                shop: self.shop,
                launch: self.launch,
                paid: self.paid,
                again: self.again,
                commits: self.commits,
                rates: self.rates,
                differences: self.differences,
                replica_differences: self.replica_differences,
                privacy: self.privacy.end(),
                audits,
                ended_in_order: cloud.success() && idc.success(),
                html: html.clone(),
            },
        );
        std::fs::write(&html, page::html(&report, &timeline))
            .with_context(|| format!("write {}", html.display()))?;
        Ok(report)
    }
}

/// Returns the path of `demo.html` in the target folder. The next run replaces the file.
fn default_html() -> Result<PathBuf> {
    let program = std::env::current_exe().context("find this program")?;
    // The program is target/debug/demo, or target/debug/deps/demo-0123.
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    let target = target.or(program.parent()).context("find the target folder")?;
    Ok(target.join("demo.html"))
}

/// Ends an agent in order.
async fn end(agent: &mut Running, options: &Options) -> Result<ExitStatus> {
    // A Ctrl-C from a terminal, which ended `--keep`, also reached the agents. A second signal
    // would interrupt the drain that it started.
    if options.keep
        && let Some(status) = agent.ended_within(Duration::from_secs(1)).await?
    {
        return Ok(status);
    }
    agent.terminate().await
}

/// Runs a step until Ctrl-C or SIGTERM. An interrupted step is dropped, so that its processes are
/// ended and its folder is deleted.
async fn unless_interrupted<T>(step: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        done = step => done,
        signal = interrupted() => signal.and_then(|()| bail!("interrupted")),
    }
}

async fn interrupted() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    tokio::select! {
        pressed = ctrl_c() => pressed.context("wait for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
    }
}

/// Returns the database to use, and its temporary cluster if there is one.
async fn database(options: &Options, dir: &TempDir) -> Result<(Database, Option<Postgres>)> {
    match options.database.as_deref() {
        None => Ok((Database::Sqlite(dir.path().join("idc").join("ledger.db")), None)),
        Some("postgres") => {
            let cluster = Postgres::start().await?;
            Ok((cluster.create_database("bridge").await?, Some(cluster)))
        }
        Some(url) => Ok((Database::parse(url)?, None)),
    }
}

/// Prints progress on standard error, because standard output is for the report alone.
fn tell(what: &str) {
    // A closed standard error is no problem.
    let _told = writeln!(std::io::stderr(), "{what}");
}
