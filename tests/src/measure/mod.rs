//! `cargo measure`: what a user has today and what Bridge does, in turns in one run, on this machine.
//!
//! [`run`] makes the machine ready, takes one bench after the other and gathers their [`Row`]s. An absolute time means
//! nothing on a shared machine, so each row has both sides and their ratio. All load stays on this machine, and
//! everything that a bench starts ends with it.
//!
//! Both sides are alike in all but what is measured: one profile (the one that is shipped) and one allocator for everything of
//! ours, the same answers to the last header, each peer tuned as its manual says, each side with the load that suits it best,
//! and turns in an order that is drawn anew each round.

// What is asked for, and what is told.
mod draw;
mod machine;
mod markdown;
mod options;
mod page;
mod progress;
mod report;
mod row;

// What Bridge is compared with, and the load.
mod alike;
mod bare;
mod haproxy_pair;
mod peers;
mod server;
mod wrk;

// Bridge itself.
mod bridge;
mod catalogue;

// The benches.
mod freshness;
mod orders;
pub mod reads;
mod start;
mod tunnel;

use std::future::Future;

use anyhow::{Context, Result, bail};
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

use crate::database::Database;
use crate::machine::{Need, make_ready};
use crate::site::Setup;
use crate::wan;

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

/// What `cargo measure reads` needs; PostgreSQL looks after itself.
pub const NEEDS: [Need; 3] = [
    Need { program: "nginx", package: "nginx" },
    Need { program: "haproxy", package: "haproxy" },
    Need { program: "wrk", package: "wrk" },
];

/// The size of a catalogue read.
const READ_BYTES: usize = 1_400;
/// Products of the catalogue that is read from.
const READ_PRODUCTS: usize = 1_000;
/// Connections that are open at a time, each with one request on its way: few, some, and more than most front ends hold.
const CONNECTIONS: [usize; 3] = [16, 64, 256];

/// Measures what was asked for; progress goes to standard error.
///
/// # Errors
/// When something is missing on the machine and cannot be installed, a bench cannot be done, or it is interrupted.
pub async fn run(options: &Options) -> Result<Report> {
    Box::pin(unless_interrupted(measure(options))).await
}

/// Becomes what the benches start this program as.
///
/// # Errors
/// When that cannot be done.
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
    let mut rows = Vec::new();
    for bench in options.chosen() {
        // Each with a folder of its own, which is deleted when its processes are gone.
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
            Bench::Tunnel if !options.is_named(bench) && wan::lacks().is_some() => {
                tell_what_is_left_out();
                Vec::new()
            }
            Bench::Tunnel => {
                let program = std::env::current_exe().context("find this program")?;
                let (rounds, share) = (quick(3, 9), quick(4, 1));
                let tunnel = tunnel::measure(&program, dir.path(), rounds, share, &mut draw);
                Box::pin(tunnel).await.context("measure the tunnel")?
            }
            Bench::Orders => {
                let (rounds, share) = (quick(3, 9), quick(4, 1));
                let with_and_without = orders::measure(dir.path(), rounds, share, &mut draw);
                with_and_without.await.context("measure orders")?
            }
            Bench::All => Vec::new(),
        });
    }
    // Asked last: by now everything is installed.
    Ok(Report { machine: Machine::this(options.quick).await, seed, rows })
}

fn tell_what_is_left_out() {
    if let Some(lack) = wan::lacks() {
        progress::tell(&format!("the tunnel is left out: there is no WAN of IP packets without {lack}"));
    }
}

/// Reads of one product, by everyone.
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

/// Gives up on Ctrl-C or SIGTERM, so that its processes are ended and its folders are deleted.
async fn unless_interrupted<T>(step: impl Future<Output = Result<T>>) -> Result<T> {
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    tokio::select! {
        done = step => done,
        pressed = ctrl_c() => pressed.context("wait for Ctrl-C").and_then(|()| bail!("interrupted")),
        _ = terminate.recv() => bail!("interrupted"),
    }
}
