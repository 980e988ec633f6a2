//! `cargo measure`: comparison of Bridge with the software that a user has today, in turns in one
//! run, on this machine.
//!
//! [`run`] prepares the machine, runs one bench after the other and collects their [`Row`]s. An
//! absolute time means nothing on a shared machine, so each row has both sides and their ratio. All
//! load stays on this machine, and everything that a bench starts ends with it.
//!
//! Both sides are alike in everything that is not measured. All code of this project has one
//! profile (the one that is shipped) and one allocator. All servers send the same answers with the
//! same headers. Each peer is tuned as its manual says. Each side gets the load that suits it best.
//! The order of the turns is drawn anew in each round.

// Options and reports.
mod cpu;
mod draw;
mod machine;
mod markdown;
mod options;
mod page;
mod progress;
mod report;
mod row;

// The peers, and the load.
mod alike;
mod bare;
mod haproxy_pair;
mod peers;
mod server;
mod wrk;

// The Bridge side.
mod bridge;
mod catalogue;

// The benches.
pub mod fairness;
mod freshness;
pub mod orders;
pub mod reads;
mod start;
pub mod surge;
mod tunnel;

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

use crate::testkit::database::Database;
use crate::testkit::machine::{Need, make_ready};
use crate::testkit::site::Setup;
use crate::testkit::wan;

pub use bare::FixedAnswer;
pub use draw::Draw;
pub use haproxy_pair::HaproxyPair;
pub use options::{Inner, Options};
pub use report::Report;
pub use row::{AtLoad, Better, Loads, Middle, Pair, Row, Target, Thousandths};
pub use server::{Server, Subject, Tuning};

use machine::{Machine, cores};
use options::Bench;
use reads::Effort;

/// Programs that `cargo measure reads` needs. PostgreSQL is installed on demand.
pub const NEEDS: [Need; 3] = [
    Need { program: "nginx", package: "nginx" },
    Need { program: "haproxy", package: "haproxy" },
    Need { program: "wrk", package: "wrk" },
];

/// Size of a catalogue read, in bytes.
const READ_BYTES: usize = 1_400;
/// Number of products in the catalogue of the reads.
const READ_PRODUCTS: usize = 1_000;
/// Numbers of open connections, each with one request under way: few, some, and more than most
/// front ends have.
const CONNECTIONS: [usize; 3] = [16, 64, 256];

/// Loads of orders: clients of the SQL, callers of Bridge, and orders in a batch of PostgreSQL's
/// own limit.
const CLIENTS: [usize; 2] = [32, 64];
const CALLERS: [usize; 2] = [512, 2_000];
const BATCHES: [usize; 3] = [64, 512, 2_048];
/// Page views a second in the calm before the surge: thirty times as many are a million a minute.
const CALM_PER_S: u64 = 560;
/// Orders a second beside the surge.
const SURGE_ORDERS_PER_S: u64 = 150;
/// Most orders of a grown ledger in a quick run.
const QUICKLY_GROWN: u64 = 200_000;

/// Runs the chosen benches. Progress goes to standard error.
///
/// # Errors
///
/// Fails if a missing program cannot be installed, if a bench cannot be done, or on an
/// interruption.
pub async fn run(options: &Options) -> Result<Report> {
    Box::pin(unless_interrupted(measure(options))).await
}

/// Runs this program as a server that the benches start.
///
/// # Errors
///
/// Fails if the server cannot run.
pub fn inner(inner: &Inner) -> Result<()> {
    match inner {
        Inner::ServeBare(options) => bare::serve(options),
    }
}

async fn measure(options: &Options) -> Result<Report> {
    options.check()?;
    let quick = |few: usize, many: usize| if options.quick { few } else { many };
    let seed = options.seed.unwrap_or_else(rand::random);
    progress::tell(&format!(
        "compiled as {}; the order of turns is drawn from --seed {seed}",
        machine::PROFILE
    ));
    let mut draw = Draw::from_seed(seed);
    let (mut rows, mut plots) = (Vec::new(), Vec::new());
    for bench in options.chosen() {
        // Each bench has its own folder, which is deleted after its processes have ended.
        let dir = tempfile::Builder::new().prefix("bridge-measure-").tempdir();
        let dir = dir.context("make a temporary folder")?;
        rows.extend(match bench {
            Bench::Reads => {
                let effort = Effort {
                    rounds: quick(3, 5),
                    seconds: quick(1, 2) as u64,
                    workers: cores(),
                    connections: &CONNECTIONS,
                };
                read(dir.path(), effort, &mut draw).await.context("measure reads")?
            }
            Bench::Freshness => freshness::measure(dir.path(), quick(40, 200), &mut draw)
                .await
                .context("measure freshness")?,
            Bench::Start => {
                let start = start::measure(dir.path(), quick(10_000, 100_000), 3, &mut draw);
                start.await.context("measure start")?
            }
            Bench::Tunnel | Bench::Orders if !options.is_named(bench) && wan::lacks().is_some() => {
                tell_what_is_left_out(bench);
                Vec::new()
            }
            Bench::Tunnel => {
                let program = std::env::current_exe().context("find this program")?;
                let (rounds, share) = (quick(3, 9), quick(4, 1));
                let tunnel = tunnel::measure(&program, dir.path(), rounds, share, &mut draw);
                Box::pin(tunnel).await.context("measure the tunnel")?
            }
            Bench::Orders => {
                Box::pin(place(options, dir.path(), &mut draw)).await.context("measure orders")?
            }
            Bench::Fairness => {
                let program = std::env::current_exe().context("find this program")?;
                let effort = fairness::Effort {
                    rounds: quick(3, 5),
                    seconds: quick(3, 10) as u64,
                    brands: 100,
                    floods: 16,
                    callers: 512,
                };
                let measured = fairness::measure(&program, dir.path(), effort, &mut draw);
                Box::pin(measured).await.context("measure fairness")?
            }
            Bench::Surge => {
                let program = std::env::current_exe().context("find this program")?;
                let seconds = |few: usize, many: usize| Duration::from_secs(quick(few, many) as u64);
                let effort = surge::Effort {
                    rounds: quick(1, 3),
                    calm: seconds(3, 15),
                    held: seconds(6, 60),
                    decay: seconds(3, 20),
                    calm_per_s: CALM_PER_S,
                    orders_per_s: SURGE_ORDERS_PER_S,
                    products: READ_PRODUCTS,
                };
                let measured = surge::measure(&program, dir.path(), effort, &mut draw);
                let (rows, own_plots) = Box::pin(measured).await.context("measure the surge")?;
                plots.extend(own_plots);
                rows
            }
            Bench::All => Vec::new(),
        });
    }
    // Read last, because all programs are installed by now.
    Ok(Report { machine: Machine::this(options.quick).await, seed, rows, plots })
}

fn tell_what_is_left_out(bench: Bench) {
    if let Some(lack) = wan::lacks() {
        let what = if bench == Bench::Tunnel { "the tunnel is" } else { "orders are" };
        progress::tell(&format!("{what} left out: there is no WAN of IP packets without {lack}"));
    }
}

/// Measures orders: the cost of the audit log, the growth of the ledger, or both sides of the line.
async fn place(options: &Options, dir: &std::path::Path, draw: &mut Draw) -> Result<Vec<Row>> {
    let quick = |few: usize, many: usize| if options.quick { few } else { many };
    let length = Duration::from_millis(quick(1_500, 4_000) as u64);
    if options.without_audit {
        return orders::audit::measure(dir, quick(3, 9), quick(4, 1), draw).await;
    }
    if let Some(number) = options.grown {
        let number = if options.quick { number.min(QUICKLY_GROWN) } else { number };
        return orders::grown::measure(dir, number, quick(3, 9), length, draw).await;
    }
    let effort = orders::Effort {
        rounds: quick(3, 5),
        length,
        clients: &CLIENTS,
        callers: &CALLERS,
        batches: &BATCHES,
        scenes: &[],
    };
    orders::measure(dir, effort, draw).await
}

/// Measures reads of one product, on all servers.
async fn read(dir: &std::path::Path, effort: Effort, draw: &mut Draw) -> Result<Vec<Row>> {
    make_ready(&NEEDS).await?;
    let program = std::env::current_exe().context("find this program")?;
    let database = Database::Sqlite(dir.join("idc").join("ledger.db"));
    let setup = Setup { tapped: false, ..Setup::default() };
    let site = bridge::site(dir, database, READ_PRODUCTS, setup).await?;
    let mut agents = site.start().await?;
    let product = bridge::product_of(&site, &mut agents.cloud, READ_BYTES).await?;
    progress::tell(&format!("reading a product of {} bytes", product.answer.body.len()));
    let answer = FixedAnswer::like(&product.answer)?;
    let subject = bridge::subject(&site, &agents.cloud, &product)?;
    reads::measure(&program, dir, &subject, &answer, effort, draw).await
}

/// Runs a step until Ctrl-C or SIGTERM. An interrupted step is dropped, so that its processes are
/// ended and its folders are deleted.
async fn unless_interrupted<T>(step: impl Future<Output = Result<T>>) -> Result<T> {
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    tokio::select! {
        done = step => done,
        pressed = ctrl_c() => pressed.context("wait for Ctrl-C").and_then(|()| bail!("interrupted")),
        _ = terminate.recv() => bail!("interrupted"),
    }
}
