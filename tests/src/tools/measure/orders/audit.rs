//! Cost of the audit log: orders a second with the log, compared with agents that were built to log
//! nothing.
//!
//! Such a build exists for this comparison alone. It makes no entry, computes no hash for one and
//! waits for none. Both bridges run all the time, each with its own database in one PostgreSQL. The
//! same orders of one hot SKU are placed with one and the other, in turns whose order is drawn, at
//! three loads. In this bench both agents and the database share one disk, which in a shop they do
//! not. So three times as many writers wait for the disk as in the baseline.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use tempfile::TempDir;

use crate::testkit::generated;
use crate::testkit::http::Client;
use crate::testkit::load::{Options, replay};
use crate::testkit::postgres::Postgres;
use crate::testkit::process::Programs;
use crate::testkit::site::{Bridge, Setup, Site};
use crate::tools::measure::draw::Draw;
use crate::tools::measure::peers;
use crate::tools::measure::progress::{Progress, tell};
use crate::tools::measure::row::{AtLoad, Better, Pair, Row, Target, Thousandths};

/// Number of simultaneous callers, and of the orders that they place together in a round. With few
/// callers, the figure is the time of a single order, which waits for two more writes to disk if
/// there is a log. The last load saturates both sides: more callers would not give more orders a
/// second. Then an order that waits for the disk delays no other order.
const LOADS: [(usize, usize); 3] = [(64, 4_000), (512, 10_000), (3_000, 20_000)];
/// Longest time for one order.
const PATIENCE: Duration = Duration::from_secs(60);
/// Seed of the orders.
const SEED: u64 = 7;

/// One bridge, the number of its rounds, and the number of its orders.
struct Side {
    site: Site,
    bridge: Bridge,
    rounds: u64,
    placed: u64,
}

/// Measures this number of rounds at each load, with one in `share` of their orders. Both sides use
/// the folder `dir`.
pub(in crate::tools::measure) async fn measure(
    dir: &Path,
    rounds: usize,
    share: usize,
    draw: &mut Draw,
) -> Result<Vec<Row>> {
    let apart = apart(dir)?;
    let dir = apart.path();
    tell("building agents that log nothing, to compare with");
    let without = Programs::build_with("without-audit", &dir.join("without-audit"))?;
    tell("building the agents");
    let with = Programs::build()?;
    let cluster = Box::pin(Postgres::start_with(peers::source())).await?;
    let mut baseline = Side::start(&dir.join("baseline"), without, &cluster, "baseline").await?;
    let mut bridge = Side::start(&dir.join("bridge"), with, &cluster, "bridge").await?;
    // A first round without measurement opens the connections and fills the caches.
    for side in [&mut baseline, &mut bridge] {
        side.round(512, 5_000).await?;
    }
    let progress = Progress::of("orders", rounds * LOADS.len());
    let mut all = LOADS.map(|(load, _)| AtLoad { load, pairs: Vec::with_capacity(rounds) });
    for _ in 0..rounds {
        for (callers, orders) in draw.order(&LOADS) {
            let orders = orders / share;
            let pair = if draw.first_of_two() {
                let baseline = baseline.round(callers, orders).await?;
                Pair { baseline, bridge: bridge.round(callers, orders).await? }
            } else {
                let bridge = bridge.round(callers, orders).await?;
                Pair { baseline: baseline.round(callers, orders).await?, bridge }
            };
            all.iter_mut().filter(|at| at.load == callers).for_each(|at| at.pairs.push(pair));
            progress.step();
        }
    }
    ensure!(baseline.entries().await? == 0, "the agents that log nothing have logged something");
    // Each agent logs one entry for an order's arrival, and one for its outcome.
    let (entries, placed) = (bridge.entries().await?, bridge.placed);
    ensure!(entries >= 4 * placed, "{entries} entries of {placed} orders are in the logs");
    Ok(vec![Row::at_best(
        "order_time_vs_without_audit",
        "a build without logs",
        "us an order",
        ("callers", all.into()),
        Better::Less,
        Some(Target::Ratio(1_050)),
    )])
}

/// Makes a folder below `dir` in another block group of an ext4 file system (as under `chattr +T`).
///
/// An ext4 without a journal does not reuse the inode of a removed file for minutes, and each new
/// file in the same group must search past all of them. Otherwise the side with logs would pay for
/// the files of earlier builds, tests or measurements.
fn apart(dir: &Path) -> Result<TempDir> {
    let above = File::open(dir)?;
    let wish = ioctl_getflags(&above).and_then(|flags| ioctl_setflags(&above, flags | IFlags::TOPDIR));
    if let Err(error) = wish {
        tell(&format!(
            "a file system without places of their own for folders ({error}): they stay where it puts them"
        ));
    }
    // The block group depends on the folder's name, which is random.
    TempDir::new_in(dir).with_context(|| format!("make a folder in {}", dir.display()))
}

impl Side {
    async fn start(dir: &Path, programs: Programs, cluster: &Postgres, name: &str) -> Result<Side> {
        let database = cluster.create_database(name).await?;
        let plan = generated::hot(SEED, 1);
        let setup = Setup { tapped: false, ..Setup::default() };
        let brands = [(plan.brand.as_str(), plan.currency)];
        let site = Site::set_up(dir, programs, database, &brands, SEED, setup).await?;
        site.import(&plan).await?;
        let bridge = site.start().await?;
        Ok(Side { site, bridge, rounds: 0, placed: 0 })
    }

    /// Measures the time of an order, of those that all callers place together.
    async fn round(&mut self, callers: usize, orders: usize) -> Result<Thousandths> {
        self.rounds += 1;
        let plan = Arc::new(generated::hot(SEED + self.rounds, orders));
        self.site.import(&plan).await?;
        let options = Options {
            storefront: self.site.storefront,
            token: self.site.token(&plan.brand).to_owned(),
            callers,
            patience: PATIENCE,
            title: String::new(),
        };
        let report = replay(&plan, &options).await;
        let placed = report.tally().placed;
        ensure!(
            placed == orders as u64,
            "{placed} of {orders} orders were placed: see {}",
            self.bridge.cloud.log().display()
        );
        self.placed += placed;
        let each = report.took.as_nanos() / orders.max(1) as u128;
        u64::try_from(each).context("it took too long")
    }

    /// Returns the number of entries in the logs of both agents.
    async fn entries(&self) -> Result<u64> {
        let mut entries = 0;
        for agent in [&self.site.cloud, &self.site.idc] {
            let status = Client::new(agent.admin).get("/status", None).await.context("ask for the status")?;
            let own = status.json()["audit"]["entries"].as_u64();
            entries += own.with_context(|| format!("{} reports no number of entries", agent.name))?;
        }
        Ok(entries)
    }
}
