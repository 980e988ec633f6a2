//! `cargo demo`: the whole bridge on this machine, a launch over it, and a report of what came of it.
//!
//! [`run`] is the story, one step after the other; `options` is what it is told, `measure` and `privacy` are its two
//! longer steps, `report` what it says. It sets up through [`Site`] with the commands that an operator uses.

mod measure;
mod options;
mod privacy;
mod report;

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::books::Books;
use crate::database::Database;
use crate::load::replay;
use crate::made_up;
use crate::plan::Plan;
use crate::postgres::Postgres;
use crate::process::Programs;
use crate::retail::{self, Book};
use crate::site::{Bridge, Site};

pub use options::Options;
pub use report::Report;

/// Orders that one caller places one after the other.
const LONELY_ORDERS: usize = 300;

/// Runs the demo and returns its report; progress goes to standard error.
///
/// # Errors
/// When a step cannot be done at all. What was done and came out wrong stands in the report.
pub async fn run(options: &Options) -> Result<Report> {
    tell("building the agents");
    let programs = Programs::build()?;
    let dir = tempfile::Builder::new().prefix("bridge-demo-").tempdir().context("make a temporary folder")?;

    tell("planning the orders");
    let (plan, input) = plan(options)?;
    let orders = options.orders as usize;
    let hot = made_up::hot(options.seed, orders);
    let spread = made_up::spread("spread", options.seed, orders);
    let lonely = made_up::spread("lonely", options.seed, LONELY_ORDERS);
    let plans = [plan, hot, spread, lonely].map(Arc::new);
    let [plan, hot, spread, lonely] = &plans;

    tell("setting up certificates, keys, configuration and the database");
    let (database, cluster) = database(options, &dir).await?;
    let brands = plans.each_ref().map(|plan| (plan.brand.as_str(), plan.currency));
    let site = Site::prepare(dir.path(), programs, database, &brands, options.seed).await?;
    let before = Books::read(site.database(), &plan.brand).await?;
    ensure!(before.orders == 0, "the database holds orders already: give the demo an empty one");
    for plan in &plans {
        site.import(plan).await?;
    }

    tell("starting both agents");
    let bridge = site.start().await?;

    tell(&format!("{} steps by {} callers", plan.steps.len(), options.callers));
    let idle = measure::commits(&bridge.idc).await?;
    let first = replay(Arc::clone(plan), &measure::callers(&site, plan, options.callers, "orders")).await;
    let commits = measure::commits(&bridge.idc).await?.since(&idle);
    tell("the same steps again, under the same keys");
    let again = replay(Arc::clone(plan), &measure::callers(&site, plan, options.callers, "again")).await;

    tell("a hot SKU, spread SKUs, and one lonely caller");
    let rates = measure::rates(&site, &bridge, [hot, spread, lonely], options.callers).await?;

    tell("comparing the ledger with what the callers were told");
    let differences =
        Books::expected(plan, &first).differences(&Books::read(site.database(), &plan.brand).await?);
    if options.keep {
        keep(&site, plan).await?;
    }
    let ended_in_order = end(bridge).await?;

    tell("searching for the planted personal values");
    let privacy = privacy::search(&site, cluster.as_ref(), &plans)?;
    let database = site.database().kind();
    Ok(Report::new(
        options,
        report::Findings {
            input,
            database,
            first,
            again,
            commits,
            rates,
            differences,
            privacy,
            ended_in_order,
        },
    ))
}

/// What the run is made of, and what was left out of it.
#[derive(Debug, Default)]
struct Input {
    source: String,
    invoices: usize,
    left_out: Vec<(&'static str, usize)>,
}

fn plan(options: &Options) -> Result<(Plan, Input)> {
    let Some(dir) = &options.data else {
        let source = format!("a made-up launch of {} orders", options.orders);
        return Ok((
            made_up::launch(options.seed, options.orders as usize),
            Input { source, ..Input::default() },
        ));
    };
    let retail = retail::read(dir, &options.days())?;
    let book = Book::of(&retail);
    let day =
        |invoice: Option<&retail::Invoice>| invoice.and_then(|it| it.at.get(..10)).unwrap_or("?").to_owned();
    let (first, last) = (day(retail.invoices.first()), day(retail.invoices.last()));
    let source = format!("{} real invoices, {first} to {last}", retail.invoices.len());
    let mut left_out: Vec<_> =
        book.left_out().into_iter().map(|(reason, count)| (reason.text(), count)).collect();
    left_out.extend(book.lines_left_out.iter().map(|(reason, count)| (reason.text(), *count)));
    let plan = retail::plan(&retail, &book, "retail", options.seed);
    Ok((plan, Input { source, invoices: retail.invoices.len(), left_out }))
}

/// The database to use, and the temporary cluster it lies in, if it does.
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

/// Stays up until Ctrl-C, and says how to call it.
async fn keep(site: &Site, plan: &Plan) -> Result<()> {
    let (brand, token, storefront) = (&plan.brand, site.token(&plan.brand), site.storefront);
    let body = plan.places().next().map(|(_, place)| String::from_utf8_lossy(&place.body).into_owned());
    tell(&format!(
        "staying up until Ctrl-C; logs and configuration are beside {}\n\
         curl -i http://{storefront}/v1/{brand}/orders -H 'Authorization: Bearer {token}' -H 'Idempotency-Key: mine-1' \
         -d '{}'\n\
         curl http://{}/metrics; curl http://{}/metrics",
        site.cloud_dir().display(),
        body.unwrap_or_default(),
        site.cloud.admin,
        site.idc.admin
    ));
    tokio::signal::ctrl_c().await.context("wait for Ctrl-C")
}

/// Ends both agents with SIGTERM; whether both exited with 0.
async fn end(mut bridge: Bridge) -> Result<bool> {
    let cloud = bridge.cloud.terminate().await?;
    let idc = bridge.idc.terminate().await?;
    Ok(cloud.success() && idc.success())
}

/// Progress for people: standard output is for the report alone.
fn tell(what: &str) {
    // Nobody may be listening, which changes nothing.
    let _told = writeln!(std::io::stderr(), "{what}");
}
