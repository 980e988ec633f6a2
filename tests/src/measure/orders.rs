//! What the audit log costs: orders a second with it, beside agents that were built to log nothing.
//!
//! Such a build exists for this comparison alone. Both bridges run all the time, each over a database of its own in one
//! PostgreSQL; the same orders of one hot SKU are placed with one and the other, in turns. Both ends and the database share one
//! disk here, which in a shop they do not: three times as many wait for it as in the baseline.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use tempfile::TempDir;

use super::progress::{Progress, tell};
use super::row::{Middle, Pair, Row, Target, Thousandths};
use crate::load::{Options, replay};
use crate::made_up;
use crate::postgres::Postgres;
use crate::process::Programs;
use crate::site::{Bridge, Setup, Site};

/// Callers at a time: so many that neither side could do more orders a second with more of them. Who waits for a disk costs no
/// order of another then, only time of its own. With half as many the side without a log is at its limit and the other is not:
/// its callers are on their way into a log or out of it, its batches are smaller, and the ratio is some 0.05 higher.
const CALLERS: usize = 3_000;
/// How long one order may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the orders are made up from.
const SEED: u64 = 7;

/// One bridge, and how often it was measured.
struct Side {
    site: Site,
    bridge: Bridge,
    rounds: u64,
}

/// Measures so many rounds of so many orders on each side, with the folder `dir` for both.
pub(super) async fn measure(dir: &Path, rounds: usize, orders: usize) -> Result<Vec<Row>> {
    let apart = apart(dir)?;
    let dir = apart.path();
    tell("building agents that log nothing, to compare with");
    let without = Programs::build_with("without-audit", &dir.join("without-audit"))?;
    tell("building the agents");
    let with = Programs::build()?;
    let cluster = Postgres::start().await?;
    let mut baseline = Side::start(&dir.join("baseline"), without, &cluster, "baseline").await?;
    let mut bridge = Side::start(&dir.join("bridge"), with, &cluster, "bridge").await?;
    // Everything finds its place.
    for side in [&mut baseline, &mut bridge] {
        side.round(orders / 4).await?;
    }
    let progress = Progress::of("orders", rounds);
    let mut pairs = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let pair = if round % 2 == 0 {
            let baseline = baseline.round(orders).await?;
            Pair { baseline, bridge: bridge.round(orders).await? }
        } else {
            let bridge = bridge.round(orders).await?;
            Pair { baseline: baseline.round(orders).await?, bridge }
        };
        pairs.push(pair);
        progress.step();
    }
    Ok(vec![Row {
        name: "order_time_vs_without_audit",
        against: "a build that logs nothing",
        unit: "us an order".to_owned(),
        middle: Middle::Median,
        pairs,
        // Less than 10 % of the orders a second.
        target: Some(Target::Ratio(1_111)),
    }])
}

/// A folder in this one, which an ext4 puts at a place of its own (as under `chattr +T`).
///
/// An ext4 without a journal does not use the place of a removed file again for minutes, and each new file beside it looks past
/// all of them: the side that logs would be charged for the files of whatever was built, tested or measured before.
fn apart(dir: &Path) -> Result<TempDir> {
    let above = File::open(dir)?;
    let wish = ioctl_getflags(&above).and_then(|flags| ioctl_setflags(&above, flags | IFlags::TOPDIR));
    if let Err(error) = wish {
        tell(&format!(
            "a file system without places of their own for folders ({error}): they stay where it puts them"
        ));
    }
    // Its name, which is another one each time, says which place.
    TempDir::new_in(dir).with_context(|| format!("make a folder in {}", dir.display()))
}

impl Side {
    async fn start(dir: &Path, programs: Programs, cluster: &Postgres, name: &str) -> Result<Side> {
        let database = cluster.create_database(name).await?;
        let plan = made_up::hot(SEED, 1);
        let setup = Setup { tapped: false, ..Setup::default() };
        let brands = [(plan.brand.as_str(), plan.currency)];
        let site = Site::set_up(dir, programs, database, &brands, SEED, setup).await?;
        site.import(&plan).await?;
        let bridge = site.start().await?;
        Ok(Side { site, bridge, rounds: 0 })
    }

    /// How long an order takes, of so many that all callers place together.
    async fn round(&mut self, orders: usize) -> Result<Thousandths> {
        self.rounds += 1;
        let plan = Arc::new(made_up::hot(SEED + self.rounds, orders));
        self.site.import(&plan).await?;
        let options = Options {
            storefront: self.site.storefront,
            token: self.site.token(&plan.brand).to_owned(),
            callers: CALLERS,
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
        let each = report.took.as_nanos() / orders.max(1) as u128;
        u64::try_from(each).context("it took too long")
    }
}
