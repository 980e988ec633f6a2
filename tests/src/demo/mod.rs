//! `cargo demo`: the whole bridge on this machine, a launch over it, and a report of what came of it.
//!
//! [`run`] is the story, one step after the other; `options` is what it is told, `measure` and `privacy` are its two
//! longer steps, `report` what it says. It sets up through [`Site`] with the commands that an operator uses.

mod measure;
mod options;
mod privacy;
mod report;

use std::future::Future;
use std::io::Write;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

use crate::books::Books;
use crate::database::Database;
use crate::load::{self, replay};
use crate::made_up;
use crate::plan::Plan;
use crate::postgres::Postgres;
use crate::process::{Programs, Running};
use crate::retail::{self, Book};
use crate::site::{Bridge, Site};

pub use options::Options;
pub use report::Report;

use measure::{Commits, Rates, callers};
use report::Findings;

/// Orders that one caller places one after the other.
const LONELY_ORDERS: usize = 300;

/// Runs the demo and returns its report; progress goes to standard error.
///
/// # Errors
/// When a step cannot be done at all, or it is interrupted. What was done and came out wrong stands in the report.
pub async fn run(options: &Options) -> Result<Report> {
    let show = unless_interrupted(play(options)).await?;
    if options.keep {
        show.stay_up()?;
        interrupted().await?;
    }
    unless_interrupted(show.judge(options)).await
}

/// A demo that was played and still runs.
struct Show {
    /// Deleted last, when the processes that write into it are gone.
    dir: TempDir,
    cluster: Option<Postgres>,
    site: Site,
    bridge: Bridge,
    plans: [Arc<Plan>; 4],
    input: Input,
    first: load::Report,
    again: load::Report,
    commits: Commits,
    rates: Rates,
    differences: Vec<String>,
}

async fn play(options: &Options) -> Result<Show> {
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
    ensure!(
        before == Books::default(),
        "the database holds orders or stock already: give the demo an empty one"
    );
    for plan in &plans {
        site.import(plan).await?;
    }

    tell("starting both agents");
    let bridge = site.start().await?;

    tell(&format!("{} steps by {} callers", plan.steps.len(), options.callers));
    let idle = measure::commits(&bridge.idc).await?;
    let first = replay(plan, &callers(&site, plan, options.callers, "orders")).await;
    let commits = measure::commits(&bridge.idc).await?.since(&idle);
    tell("the same steps again, under the same keys");
    let again = replay(plan, &callers(&site, plan, options.callers, "again")).await;

    tell("a hot SKU, spread SKUs, and one lonely caller");
    let rates = measure::rates(&site, &bridge, [hot, spread, lonely], options.callers).await?;

    tell("comparing the ledger with what the callers were told");
    let actual = Books::read(site.database(), &plan.brand).await?;
    let differences = Books::expected(&first).differences(&actual);
    Ok(Show { dir, cluster, site, bridge, plans, input, first, again, commits, rates, differences })
}

impl Show {
    /// Says how to call the bridge while it stays up.
    fn stay_up(&self) -> Result<()> {
        let [plan, ..] = &self.plans;
        let (brand, token, storefront) = (&plan.brand, self.site.token(&plan.brand), self.site.storefront);
        let order = self.dir.path().join("order.json");
        let body = plan.places().next().map(|(_, place)| place.body.clone()).unwrap_or_default();
        std::fs::write(&order, body).with_context(|| format!("write {}", order.display()))?;
        tell(&format!(
            "staying up until Ctrl-C; configuration and logs are in {}\n\
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

    /// Ends both agents, searches what they left, and writes the report.
    async fn judge(mut self, options: &Options) -> Result<Report> {
        let (cloud, idc) =
            (end(&mut self.bridge.cloud, options).await?, end(&mut self.bridge.idc, options).await?);
        tell("searching for the planted personal values");
        let privacy = privacy::search(&self.site, self.cluster.as_ref(), &self.plans)?;
        Ok(Report::new(
            options,
            Findings {
                input: self.input,
                database: self.site.database().kind(),
                first: self.first,
                again: self.again,
                commits: self.commits,
                rates: self.rates,
                differences: self.differences,
                privacy,
                ended_in_order: cloud.success() && idc.success(),
            },
        ))
    }
}

/// Ends an agent in order.
async fn end(agent: &mut Running, options: &Options) -> Result<ExitStatus> {
    // The Ctrl-C that ended `--keep` reached the agents as well, if it came from a terminal; a second signal would cut
    // short the drain that it began.
    if options.keep
        && let Some(status) = agent.ended_within(Duration::from_secs(1)).await?
    {
        return Ok(status);
    }
    agent.terminate().await
}

/// Gives up a step on Ctrl-C or SIGTERM, so that its processes are ended and its folder is deleted.
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

/// Progress for people: standard output is for the report alone.
fn tell(what: &str) {
    // Nobody may be listening, which changes nothing.
    let _told = writeln!(std::io::stderr(), "{what}");
}
