//! Time from a commit until the change is visible across a line of 10 ms: on a streaming standby,
//! and at Bridge's cloud agent.
//!
//! A change is one `UPDATE` by plain SQL, of a price or of a stock, by turns. Once the database has
//! confirmed the commit, one side is asked without a pause until it shows the new value: the
//! standby by SQL, or the cloud agent over HTTP, both on this machine. Every change reaches both
//! sides. The order of the sides in a round is drawn. The standby is tuned as PostgreSQL's manual
//! recommends for a clone that can be made again: like Bridge's replica, it waits for no disk.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use serde_json::Value;
use sqlx::PgConnection;
use tokio::time::sleep;

use super::bridge::{self, BRAND, Product};
use super::draw::Draw;
use super::peers;
use super::progress::{Progress, tell};
use super::row::{Middle, Pair, Row, Target};
use crate::testkit::http::Client;
use crate::testkit::postgres::Postgres;
use crate::testkit::site::Setup;
use crate::testkit::wan::TcpRelay;

/// Round trip of the line between the data centre and the cloud.
pub(super) const ROUND_TRIP: Duration = Duration::from_millis(10);
/// Longest time for one change.
const PATIENCE: Duration = Duration::from_secs(20);
/// Changes that are not counted, because caches and connections are not ready yet.
const FIRST: usize = 5;
/// Products of the catalogue. They are many, so that a change is one row among many.
const PRODUCTS: usize = 1_000;
/// Name of the bridge's database.
const DATABASE: &str = "bridge";

const SET_PRICE: &str = "UPDATE skus SET price = $3 WHERE brand = $1 AND sku = $2 RETURNING price";
const ADD_STOCK: &str = "UPDATE stock SET initial = initial + $3, available = available + $3
    WHERE sku_id = (SELECT sku_id FROM skus WHERE brand = $1 AND sku = $2) RETURNING available";
const PRICE: &str = "SELECT price FROM skus WHERE brand = $1 AND sku = $2";
const STOCK: &str = "SELECT available FROM stock JOIN skus USING (sku_id) WHERE brand = $1 AND sku = $2";

/// The changed column.
#[derive(Clone, Copy, Debug)]
enum ChangedColumn {
    Price,
    Stock,
}

/// A writer that changes rows, as a DBA would.
struct Writer {
    primary: PgConnection,
    sku: String,
    /// The last price. Each change sets a new one.
    price: i64,
}

/// A change whose commit the database has confirmed.
struct Change {
    what: ChangedColumn,
    /// The new price or the new stock.
    value: i64,
    committed: Instant,
}

/// Both sides, and the writer.
struct Sides {
    writer: Writer,
    standby: PgConnection,
    storefront: Client,
    product: Product,
}

/// Measures this number of changes on each side. Bridge uses the folder `dir`.
pub(super) async fn measure(dir: &Path, changes: usize, draw: &mut Draw) -> Result<Vec<Row>> {
    let cluster = Box::pin(Postgres::start_with(peers::source())).await?;
    let database = cluster.create_database(DATABASE).await?;
    let setup = Setup { tapped: false, ..Setup::default() };
    let site = bridge::site(dir, database, PRODUCTS, setup).await?;
    site.line.delay(ROUND_TRIP);
    let mut agents = site.start().await?;
    let product = bridge::product_of(&site, &mut agents.cloud, 1_400).await?;

    tell("making a standby across the same line");
    let line = TcpRelay::start(cluster.address(), ROUND_TRIP).context("start the standby's line")?;
    let standby = cluster.standby(line.address(), peers::replica()).await?;
    let primary = cluster.connect(DATABASE).await.context("connect to the primary")?;
    let mut sides = Sides {
        writer: Writer { primary, sku: product.sku.clone(), price: 1_000 },
        standby: standby.connect(DATABASE).await.context("connect to the standby")?,
        storefront: Client::new(site.storefront),
        product,
    };
    let pairs = sides.in_turns(changes, draw).await?;
    Ok(rows(pairs))
}

fn rows(pairs: Vec<Pair>) -> Vec<Row> {
    let row = |name, middle, pairs, target| Row {
        name,
        against: "streaming standby",
        unit: "ms".to_owned(),
        middle,
        pairs,
        target: Some(target),
        loads: None,
        notes: Vec::new(),
    };
    vec![
        row("freshness_p50_vs_standby", Middle::Median, pairs.clone(), Target::Ratio(1_000)),
        row("freshness_p99_ms", Middle::P99, pairs, Target::Bridge(20_000)),
    ]
}

impl Sides {
    async fn in_turns(&mut self, changes: usize, draw: &mut Draw) -> Result<Vec<Pair>> {
        let progress = Progress::of("freshness", changes);
        let mut pairs = Vec::new();
        for round in 0..FIRST + changes {
            let what = if round % 2 == 0 { ChangedColumn::Price } else { ChangedColumn::Stock };
            let pair = if draw.first_of_two() {
                let baseline = self.on_the_standby(what).await?;
                Pair { baseline, bridge: self.in_the_cloud(what).await? }
            } else {
                let bridge = self.in_the_cloud(what).await?;
                Pair { baseline: self.on_the_standby(what).await?, bridge }
            };
            if round >= FIRST {
                pairs.push(pair);
                progress.step();
            }
        }
        Ok(pairs)
    }

    async fn on_the_standby(&mut self, what: ChangedColumn) -> Result<u64> {
        let change = self.writer.change(what).await?;
        change.on_the_standby(&mut self.standby, &self.product.sku).await
    }

    async fn in_the_cloud(&mut self, what: ChangedColumn) -> Result<u64> {
        let change = self.writer.change(what).await?;
        change.in_the_cloud(&mut self.storefront, &self.product).await
    }
}

impl Writer {
    /// Changes a row after a random pause.
    async fn change(&mut self, what: ChangedColumn) -> Result<Change> {
        // Timers here and in the lines tick in milliseconds. The rest of the pause is slept outside
        // of them, so that changes do not all fall on the same part of a tick.
        let (ticks, rest) = (rand::rng().random_range(20..120), rand::rng().random_range(0..1_000));
        sleep(Duration::from_millis(ticks)).await;
        std::thread::sleep(Duration::from_micros(rest));
        let (sql, value) = match what {
            ChangedColumn::Price => {
                self.price += 1;
                (SET_PRICE, self.price)
            }
            ChangedColumn::Stock => (ADD_STOCK, 1),
        };
        let update = sqlx::query_scalar(sql).bind(BRAND).bind(&self.sku).bind(value);
        let value = update.fetch_one(&mut self.primary).await.context("change a row")?;
        Ok(Change { what, value, committed: Instant::now() })
    }
}

impl Change {
    /// Waits until the change shows on the standby. Returns microseconds, which are thousandths of
    /// a millisecond.
    async fn on_the_standby(&self, standby: &mut PgConnection, sku: &str) -> Result<u64> {
        let query = match self.what {
            ChangedColumn::Price => PRICE,
            ChangedColumn::Stock => STOCK,
        };
        loop {
            let query = sqlx::query_scalar::<_, i64>(query).bind(BRAND).bind(sku);
            if query.fetch_one(&mut *standby).await.context("ask the standby")? == self.value {
                return Ok(micros(self.committed));
            }
            ensure!(self.committed.elapsed() < PATIENCE, "a change does not show on the standby");
        }
    }

    /// Waits until the change shows at Bridge's cloud agent. Returns microseconds.
    async fn in_the_cloud(&self, storefront: &mut Client, product: &Product) -> Result<u64> {
        let (path, pointer) = match self.what {
            ChangedColumn::Price => (product.path.clone(), "/variants/0/price/amount"),
            ChangedColumn::Stock => (format!("/v1/{BRAND}/stock?sku={}", product.sku), "/items/0/available"),
        };
        loop {
            let answer = storefront.get(&path, None).await.context("ask the cloud")?;
            if answer.json().pointer(pointer).and_then(Value::as_i64) == Some(self.value) {
                return Ok(micros(self.committed));
            }
            ensure!(self.committed.elapsed() < PATIENCE, "a change does not show in the cloud");
        }
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_change_is_found_on_the_standby_by_its_value() -> Result<()> {
        let cluster = Postgres::start().await?;
        cluster.create_database(DATABASE).await?;
        let mut primary = cluster.connect(DATABASE).await?;
        for sql in [
            "CREATE TABLE skus AS SELECT 1::bigint AS sku_id, 'shop' AS brand, 's' AS sku, 5::bigint AS price",
            "CREATE TABLE stock AS SELECT 1::bigint AS sku_id, 7::bigint AS initial, 7::bigint AS available",
        ] {
            sqlx::query(sql).execute(&mut primary).await?;
        }
        let line = TcpRelay::start(cluster.address(), ROUND_TRIP)?;
        let standby = cluster.standby(line.address(), peers::replica()).await?;
        let mut standby = standby.connect(DATABASE).await?;
        let mut writer = Writer { primary, sku: "s".to_owned(), price: 5 };
        for (what, value) in [
            (ChangedColumn::Price, 6),
            (ChangedColumn::Stock, 8),
            (ChangedColumn::Price, 7),
            (ChangedColumn::Stock, 9),
        ] {
            let change = writer.change(what).await?;
            assert_eq!(change.value, value);
            change.on_the_standby(&mut standby, "s").await?;
        }
        Ok(())
    }

    #[test]
    fn both_rows_are_of_the_same_changes() {
        let pairs: Vec<_> = (1..=200).map(|us| Pair { baseline: us * 100, bridge: us * 101 }).collect();
        let rows = rows(pairs);
        let numbers = rows.iter().map(|row| (row.name, row.baseline(), row.bridge(), row.reached()));
        let expected = [
            ("freshness_p50_vs_standby", 10_000, 10_100, Some(false)),
            ("freshness_p99_ms", 19_800, 19_998, Some(true)),
        ];
        assert_eq!(numbers.collect::<Vec<_>>(), expected);
    }
}
