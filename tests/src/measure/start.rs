//! How long a new replica takes to its first correct answer: a standby from a base backup, and Bridge's cloud agent, cold
//! and warm.
//!
//! Cold is an empty state folder: everything comes over the tunnel. Warm is a restart that finds a snapshot. The database
//! is the same for all, and so is the line of 10 ms to it. The cloud agent dials, as one would that was just added: how
//! long the data centre takes to notice a new address is not what is measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::bridge::{self, BRAND, Product};
use super::freshness::ROUND_TRIP;
use super::progress::{Progress, tell};
use super::row::{Middle, Pair, Row, Target};
use crate::postgres::Postgres;
use crate::process::Running;
use crate::site::{Setup, Site};
use crate::tcp_line::TcpLine;

/// A snapshot of a thousand products is longer, everything else in the state folder is shorter.
const SNAPSHOT_BYTES_MIN: u64 = 100_000;
const DATABASE: &str = "bridge";
const NAMES: &str = "SELECT names::text FROM products WHERE brand = $1 AND product = $2";

/// Milliseconds, which are thousandths of a second, of one round.
struct Round {
    standby: u64,
    cold: u64,
    warm: u64,
}

/// Measures so many rounds with so many products, with the folder `dir` for the bridge.
pub(super) async fn measure(dir: &Path, products: usize, rounds: usize) -> Result<Vec<Row>> {
    let cluster = Postgres::start().await?;
    let database = cluster.create_database(DATABASE).await?;
    let setup = Setup { tapped: false, cloud_dials: true, ..Setup::default() };
    let site = bridge::site(dir, database, products, setup).await?;
    site.line.delay(ROUND_TRIP);
    let line = TcpLine::start(cluster.address(), ROUND_TRIP).context("start the standby's line")?;

    tell("starting once, to know what is right");
    let mut agents = site.start().await?;
    let product = bridge::product_of(&site, &mut agents.cloud, 1_400).await?;
    agents.cloud.terminate().await?;
    let progress = Progress::of("start", rounds * 3);
    let mut all = Vec::new();
    for _ in 0..rounds {
        let standby = standby(&cluster, &line, &product).await?;
        progress.step();
        let state = site.cloud_dir().join("state");
        fs::remove_dir_all(&state).with_context(|| format!("empty {}", state.display()))?;
        let (cold, mut cloud) = cloud(&site, &product).await?;
        progress.step();
        // It writes what it has when it ends.
        cloud.terminate().await?;
        ensure!(largest(&state) >= SNAPSHOT_BYTES_MIN, "the cloud agent has written no snapshot");
        let (warm, mut cloud) = self::cloud(&site, &product).await?;
        progress.step();
        cloud.terminate().await?;
        all.push(Round { standby, cold, warm });
    }
    Ok(rows(&all, products))
}

fn rows(rounds: &[Round], products: usize) -> Vec<Row> {
    // The row's name says 100,000: a run with fewer says so where the number is read.
    let unit = if products == 100_000 { "s".to_owned() } else { format!("s, {products} products") };
    let row = |name, bridge: fn(&Round) -> u64, target| Row {
        name,
        against: "base backup",
        unit: unit.clone(),
        middle: Middle::Median,
        pairs: rounds.iter().map(|round| Pair { baseline: round.standby, bridge: bridge(round) }).collect(),
        target: Some(Target::Bridge(target)),
    };
    vec![
        row("start_cold_100k_s", |round| round.cold, 2_000),
        row("start_warm_100k_s", |round| round.warm, 300),
    ]
}

/// From the start of the base backup to the standby's answer about the product.
async fn standby(cluster: &Postgres, line: &TcpLine, product: &Product) -> Result<u64> {
    let started = Instant::now();
    let standby = cluster.standby(line.address()).await?;
    let mut connection = standby.connect(DATABASE).await.context("connect to the standby")?;
    let query = sqlx::query_scalar::<_, String>(NAMES).bind(BRAND).bind(&product.code);
    query.fetch_one(&mut connection).await.context("ask the standby")?;
    Ok(millis(started))
}

/// From the start of the cloud agent to its right answer about the product.
async fn cloud(site: &Site, product: &Product) -> Result<(u64, Running)> {
    let started = Instant::now();
    let mut cloud = site.cloud.spawn()?;
    let answer = bridge::first_answer(site, &mut cloud, &product.path).await?;
    let took = millis(started);
    ensure!(answer.body == product.answer.body, "the first answer after a start is not the right one");
    Ok((took, cloud))
}

/// The length of the longest file in a folder and those below it.
fn largest(folder: &Path) -> u64 {
    let mut folders = vec![PathBuf::from(folder)];
    let mut largest = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => largest = largest.max(metadata.len()),
                // It has just been renamed or removed.
                Err(_) => {}
            }
        }
    }
    largest
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_with_fewer_products_says_so() {
        let rounds = [Round { standby: 7_500, cold: 1_900, warm: 400 }];
        let whole = rows(&rounds, 100_000);
        assert_eq!(whole.iter().map(|row| row.unit.as_str()).collect::<Vec<_>>(), ["s", "s"]);
        assert_eq!(whole.iter().map(Row::reached).collect::<Vec<_>>(), [Some(true), Some(false)]);
        assert_eq!(rows(&rounds, 10_000)[0].unit, "s, 10000 products");
    }

    #[test]
    fn the_longest_file_is_found_in_any_folder() {
        let dir = tempfile::tempdir().expect("temporary folder");
        assert_eq!(largest(dir.path()), 0);
        fs::create_dir(dir.path().join("replica")).expect("made");
        fs::write(dir.path().join("replica").join("snapshot"), [0; 70]).expect("written");
        fs::write(dir.path().join("reset-key"), [0; 64]).expect("written");
        assert_eq!(largest(dir.path()), 70);
    }
}
