//! Time of a new replica until its first right answer: PostgreSQL's two kinds of replicas, and
//! Bridge's cloud agent, cold and warm.
//!
//! A cold start has an empty state folder: all data comes over the tunnel. It is compared with a
//! subscriber of PostgreSQL's logical replication, whose server starts with empty tables and copies
//! the same ones. A standby from a base backup is shown for information: it copies the whole
//! cluster. A warm start finds a snapshot. It is compared with a restart of the subscriber. All use
//! the same database over the same line of 10 ms. The cloud agent dials, as a newly added one
//! would. So the time in which the data centre notices a new address is not measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::bridge::{self, BRAND, Product};
use super::draw::Draw;
use super::freshness::ROUND_TRIP;
use super::peers;
use super::progress::{Progress, tell};
use super::row::{Middle, Pair, Row, Target};
use crate::testkit::postgres::Postgres;
use crate::testkit::process::Running;
use crate::testkit::site::{Setup, Site};
use crate::testkit::wan::TcpRelay;

/// A snapshot of a thousand products is larger, and all other files of the state folder are
/// smaller.
const SNAPSHOT_BYTES_MIN: u64 = 100_000;
const DATABASE: &str = "bridge";
/// Tables that a replica of Bridge has.
const TABLES: [&str; 6] = ["brands", "categories", "products", "product_categories", "skus", "stock"];
const NAMES: &str = "SELECT names::text FROM products WHERE brand = $1 AND product = $2";

/// The sides that take turns in each round. A restart comes after its start.
#[derive(Clone, Copy, Debug)]
enum Side {
    Backup,
    Subscriber,
    Bridge,
}

const SIDES: [Side; 3] = [Side::Backup, Side::Subscriber, Side::Bridge];

/// Times of one round in milliseconds, which are thousandths of a second.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    backup: u64,
    /// Time to copy the tables.
    copy: u64,
    /// Time of the subscriber's restart after the copy.
    restart: u64,
    cold: u64,
    warm: u64,
}

/// Everything that the sides start from.
struct Start {
    cluster: Postgres,
    line: TcpRelay,
    site: Site,
    product: Product,
}

/// Measures this number of rounds with this number of products. Bridge uses the folder `dir`.
pub(super) async fn measure(dir: &Path, products: usize, rounds: usize, draw: &mut Draw) -> Result<Vec<Row>> {
    let cluster = Box::pin(Postgres::start_with(peers::source())).await?;
    let database = cluster.create_database(DATABASE).await?;
    let setup = Setup { tapped: false, cloud_dials: true, ..Setup::default() };
    let site = bridge::site(dir, database, products, setup).await?;
    cluster.publish(DATABASE, &TABLES).await?;
    site.line.delay(ROUND_TRIP);
    let line = TcpRelay::start(cluster.address(), ROUND_TRIP).context("start PostgreSQL's line")?;

    tell("starting once, for the expected answer");
    let mut agents = site.start().await?;
    let product = bridge::product_of(&site, &mut agents.cloud, 1_400).await?;
    agents.cloud.terminate().await?;
    let start = Start { cluster, line, site, product };
    let progress = Progress::of("start", rounds * SIDES.len());
    let mut all = Vec::new();
    for _ in 0..rounds {
        let mut round = Round::default();
        for side in draw.order(&SIDES) {
            match side {
                Side::Backup => round.backup = start.backup().await?,
                Side::Subscriber => (round.copy, round.restart) = start.subscriber().await?,
                Side::Bridge => (round.cold, round.warm) = start.bridge().await?,
            }
            progress.step();
        }
        all.push(round);
    }
    Ok(rows(&all, products))
}

fn rows(rounds: &[Round], products: usize) -> Vec<Row> {
    // The row's name says 100,000, so a run with fewer products shows its number in the unit.
    let unit = if products == 100_000 { "s".to_owned() } else { format!("s, {products} products") };
    let row = |name, against, sides: fn(&Round) -> (u64, u64), target: Option<u64>| Row {
        name,
        against,
        unit: unit.clone(),
        middle: Middle::Median,
        pairs: rounds
            .iter()
            .map(|round| {
                let (baseline, bridge) = sides(round);
                Pair { baseline, bridge }
            })
            .collect(),
        target: target.map(Target::Bridge),
        loads: None,
        notes: Vec::new(),
    };
    vec![
        row("start_cold_100k_s", "logical replication", |round| (round.copy, round.cold), Some(2_000)),
        row("start_warm_100k_s", "subscriber's restart", |round| (round.restart, round.warm), Some(300)),
        row("start_cold_100k_vs_backup_s", "base backup", |round| (round.backup, round.cold), None),
    ]
}

impl Start {
    /// Measures the time from the start of the base backup until the standby's answer about the
    /// product.
    async fn backup(&self) -> Result<u64> {
        let started = Instant::now();
        let standby = self.cluster.standby(self.line.address(), peers::replica()).await?;
        self.is_answered_by(&standby).await.context("ask the standby")?;
        Ok(millis(started))
    }

    /// Measures two times: from the start of a server with empty tables until it has copied all
    /// tables and answers about the product, and from its restart to the same answer.
    async fn subscriber(&self) -> Result<(u64, u64)> {
        let mut server = self.cluster.subscriber(DATABASE, &TABLES, peers::subscriber()).await?;
        let started = Instant::now();
        server.restart().await?;
        server.subscribe(DATABASE, &self.cluster, self.line.address()).await?;
        self.is_answered_by(&server).await.context("ask the subscriber")?;
        let copied = millis(started);
        server.stop().await?;
        let started = Instant::now();
        server.restart().await?;
        self.is_answered_by(&server).await.context("ask the subscriber again")?;
        let restarted = millis(started);
        server.unsubscribe(DATABASE).await?;
        Ok((copied, restarted))
    }

    async fn is_answered_by(&self, server: &Postgres) -> Result<()> {
        let mut connection = server.connect(DATABASE).await?;
        let query = sqlx::query_scalar::<_, String>(NAMES).bind(BRAND).bind(&self.product.code);
        query.fetch_one(&mut connection).await?;
        Ok(())
    }

    /// Measures a cold and then a warm start.
    async fn bridge(&self) -> Result<(u64, u64)> {
        let state = self.site.cloud_dir().join("state");
        fs::remove_dir_all(&state).with_context(|| format!("empty {}", state.display()))?;
        let (cold, mut cloud) = self.cloud().await?;
        // The agent writes its snapshot when it ends.
        cloud.terminate().await?;
        ensure!(largest(&state) >= SNAPSHOT_BYTES_MIN, "the cloud agent has written no snapshot");
        let (warm, mut cloud) = self.cloud().await?;
        cloud.terminate().await?;
        Ok((cold, warm))
    }

    /// Measures the time from the start of the cloud agent until its right answer about the
    /// product.
    async fn cloud(&self) -> Result<(u64, Running)> {
        let Start { site, product, .. } = self;
        let started = Instant::now();
        let mut cloud = site.cloud.spawn()?;
        let answer = bridge::first_answer(site, &mut cloud, &product.path).await?;
        let took = millis(started);
        ensure!(answer.body == product.answer.body, "the first answer after a start is not the right one");
        Ok((took, cloud))
    }
}

/// Returns the size of the largest file in a folder and its subfolders.
fn largest(folder: &Path) -> u64 {
    let mut folders = vec![PathBuf::from(folder)];
    let mut largest = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => largest = largest.max(metadata.len()),
                // The file has just been renamed or removed.
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
        let rounds = [Round { backup: 7_500, copy: 5_000, restart: 200, cold: 1_900, warm: 400 }];
        let whole = rows(&rounds, 100_000);
        assert!(whole.iter().all(|row| row.unit == "s"));
        let sides = whole.iter().map(|row| (row.baseline(), row.bridge(), row.reached()));
        let expected = [(5_000, 1_900, Some(true)), (200, 400, Some(false)), (7_500, 1_900, None)];
        assert_eq!(sides.collect::<Vec<_>>(), expected);
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
