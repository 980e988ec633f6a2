//! Several writers change random rows by plain SQL while a reader follows the changes. At the end
//! the reader must hold the tables' rows. The test prints its seed. `CATALOGUE_SEED` repeats a
//! writer's statements, and `CATALOGUE_SECONDS` sets the duration.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bridge_idc::catalogue::Catalogue;
use bridge_idc::config::LedgerUrl;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection};
use tokio::time::Instant;

use super::source::{Replica, SHOP, Source, brands};
use crate::database::Database;

const WRITERS: u64 = 4;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// A DBA's connection.
enum Dba {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Dba {
    async fn connect(url: &LedgerUrl) -> Self {
        match url {
            LedgerUrl::Postgres(url) => Self::Postgres(PgConnection::connect(url).await.unwrap()),
            LedgerUrl::Sqlite(path) => {
                let options =
                    SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(60));
                Self::Sqlite(options.connect().await.unwrap())
            }
        }
    }

    /// Runs a statement. Returns false if it failed, for example because a key exists or a parent
    /// is missing.
    async fn run(&mut self, sql: &str) -> bool {
        match self {
            Self::Postgres(connection) => sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.is_ok(),
            Self::Sqlite(connection) => sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.is_ok(),
        }
    }

    async fn begin(&mut self) {
        let begin = match self {
            Self::Postgres(_) => "BEGIN",
            Self::Sqlite(_) => "BEGIN IMMEDIATE",
        };
        assert!(self.run(begin).await);
    }
}

/// Returns one random statement.
fn statement(dice: &mut ChaCha8Rng) -> String {
    let brand = ["acme", "beta"][dice.random_range(0..2)];
    let (p, q) = (dice.random_range(0..12), dice.random_range(0..12));
    let (c, d) = (dice.random_range(0..6), dice.random_range(0..6));
    let (s, n) = (dice.random_range(0..20), dice.random_range(0..1_000));
    match dice.random_range(0..18) {
        0 => format!(
            "INSERT INTO products (brand, product, names) VALUES ('{brand}', 'P{p}', '{{\"en\": \"{n}\"}}')"
        ),
        1 => format!(
            "UPDATE products SET document = '{{\"n\": {n}}}' WHERE brand = '{brand}' AND product = 'P{p}'"
        ),
        2 => format!("UPDATE products SET product = 'P{q}' WHERE brand = '{brand}' AND product = 'P{p}'"),
        3 => format!("DELETE FROM products WHERE brand = '{brand}' AND product = 'P{p}'"),
        4 => format!("INSERT INTO categories (brand, category, names) VALUES ('{brand}', 'c{c}', '{{}}')"),
        5 => format!("UPDATE categories SET position = {n} WHERE brand = '{brand}'"),
        6 => format!("UPDATE categories SET category = 'c{d}' WHERE brand = '{brand}' AND category = 'c{c}'"),
        7 => format!("UPDATE categories SET parent = 'c{d}' WHERE brand = '{brand}' AND category = 'c{c}'"),
        8 => format!("DELETE FROM categories WHERE brand = '{brand}' AND category = 'c{c}'"),
        9 => format!("INSERT INTO product_categories VALUES ('{brand}', 'P{p}', 'c{c}')"),
        10 => format!("DELETE FROM product_categories WHERE brand = '{brand}' AND category = 'c{c}'"),
        11 => {
            format!("INSERT INTO skus (brand, sku, price, product) VALUES ('{brand}', 'S{s}', {n}, 'P{p}')")
        }
        12 => format!("UPDATE skus SET price = {n} WHERE brand = '{brand}' AND product = 'P{p}'"),
        13 => format!("UPDATE skus SET product = 'P{p}' WHERE brand = '{brand}' AND sku = 'S{s}'"),
        14 => format!("UPDATE skus SET sku = 'S{}' WHERE brand = '{brand}' AND sku = 'S{s}'", (s + 7) % 20),
        15 => format!(
            "INSERT INTO stock (sku_id, initial, available, sold) \
             SELECT sku_id, {n}, {n}, 0 FROM skus WHERE brand = '{brand}' AND sku = 'S{s}'"
        ),
        16 => format!("UPDATE stock SET available = {n}, initial = {n} + sold WHERE sku_id % 5 = {}", n % 5),
        _ => format!(
            "DELETE FROM stock WHERE sku_id IN (SELECT sku_id FROM skus WHERE brand = '{brand}' AND sku = 'S{s}'); \
             DELETE FROM skus WHERE brand = '{brand}' AND sku = 'S{s}'"
        ),
    }
}

async fn write(url: LedgerUrl, seed: u64, until: Instant) -> u64 {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let mut dba = Dba::connect(&url).await;
    let mut committed = 0;
    while Instant::now() < until {
        dba.begin().await;
        let mut works = true;
        for _ in 0..dice.random_range(1..5) {
            works = works && dba.run(&statement(&mut dice)).await;
        }
        let commits = works && dice.random_range(0..8) > 0;
        // The tree's foreign keys are checked at the commit.
        if commits && dba.run("COMMIT").await {
            committed += 1;
        } else {
            dba.run("ROLLBACK").await;
        }
    }
    committed
}

async fn follow(catalogue: &Catalogue, replica: &mut Replica, done: &AtomicBool, read: &AtomicU64) {
    let mut changes_max = 1;
    while !done.load(Ordering::Relaxed) {
        changes_max = changes_max % 50 + 7;
        let rows = replica.follow(catalogue, changes_max).await.expect("the replica's position was pruned");
        read.fetch_add(rows as u64, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

pub(crate) async fn a_reader_of_changes_equals_the_tables_after_random_writers(database: &Database) {
    let seed = setting("CATALOGUE_SEED").unwrap_or_else(rand::random);
    let seconds = setting("CATALOGUE_SECONDS").unwrap_or(5);
    println!("CATALOGUE_SEED={seed} CATALOGUE_SECONDS={seconds}");
    let brands = brands(&["acme", "beta"]);
    let mut source = Source::of(&database.ledger);
    // Another agent on the same database, whose sequencer waits for the lease.
    let _second = Source::of(&database.second_agent().await);
    database.run(SHOP, SHOP).await;
    let mut replica = Replica::bootstrap(&source.catalogue, &brands, 3).await;

    let until = Instant::now() + Duration::from_secs(seconds);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(database.url().clone(), seed.wrapping_add(writer), until)))
        .collect();
    let (done, read) = (AtomicBool::new(false), AtomicU64::new(0));
    let all = async {
        let mut committed = 0;
        for writer in writers {
            committed += writer.await.unwrap();
        }
        done.store(true, Ordering::Relaxed);
        committed
    };
    let catalogue = source.catalogue.clone();
    let (committed, ()) = tokio::join!(all, follow(&catalogue, &mut replica, &done, &read));
    let position = source.settled().await;
    replica.reach(&catalogue, position).await;
    replica.assert_equals(&catalogue).await;
    let rows = read.load(Ordering::Relaxed);
    println!(
        "{committed} transactions, {} changes, {rows} rows read, {} rows held",
        position.seq,
        replica.rows.len()
    );
    assert!(committed > 0 && rows > 0);
}
