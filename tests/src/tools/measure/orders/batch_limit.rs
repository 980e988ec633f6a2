//! PostgreSQL's own limit: the same orders in multi-row batches, by one connection on this machine
//! that does nothing else.
//!
//! Each batch is one transaction over five tables with `UNNEST`: keys, orders, lines, personal
//! data, stock. The next batch begins as soon as the last is committed, so nothing waits for a
//! timer, for a caller or for a line. The tables are those of Bridge's ledger, without its
//! triggers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Pid;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnectOptions;
use sqlx::types::Uuid;
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::mix::Orders;
use super::sample::Sample;
use super::sql::order_id;
use crate::testkit::histogram::Histogram;
use crate::tools::measure::cpu::Meter;

const SETTLE: &str =
    "INSERT INTO outcomes (key, brand, operation, order_id, fingerprint, outcome, committed_at)
    SELECT new.key, $2, 'place', new.order_id, new.fingerprint, 'placed', $5
    FROM UNNEST($1::bytea[], $3::uuid[], $4::bytea[]) AS new (key, order_id, fingerprint)
    ON CONFLICT (key) DO NOTHING RETURNING position";
const WRITE: &str = "WITH placed AS (
        INSERT INTO orders (order_id, brand, position, customer_reference, currency, shipping_fee, total, committed_at)
        SELECT new.order_id, $2, new.position, 'customer', $3, 0, $4, $5
        FROM UNNEST($1::uuid[], $6::bigint[]) AS new (order_id, position)
    ), lines AS (
        INSERT INTO order_lines (order_id, line_no, sku_id, quantity, unit_price)
        SELECT new.order_id, 0, $7, 1, $4 FROM UNNEST($1::uuid[]) AS new (order_id)
    ), personal AS (
        INSERT INTO order_personal (order_id, key_version, wrapped_key, customer_name, customer_phone,
            customer_email, delivery_name, delivery_phone, delivery_address, delivery_note)
        SELECT new.order_id, 1, new.value, new.value, new.value, new.value, new.value, new.value, new.value, new.value
        FROM UNNEST($1::uuid[], $8::bytea[]) AS new (order_id, value)
    )
    UPDATE stock SET available = available - $9, sold = sold + $9 WHERE sku_id = $7 AND available >= $9";

/// A connection that commits batches of one hot SKU.
#[derive(Debug)]
pub(super) struct BatchLimit {
    connection: PgConnection,
    brand: &'static str,
    currency: &'static str,
    sku_id: i64,
    price: i64,
    meter: Meter,
    orders: u64,
}

impl BatchLimit {
    /// Connects, and looks up the hot SKU. The server's process is for its CPU time.
    pub(super) async fn connect(
        options: &PgConnectOptions,
        orders: &Orders,
        server: Pid,
    ) -> Result<BatchLimit> {
        let mut connection = options.connect().await.context("connect to PostgreSQL")?;
        let sku = &orders.stock.first().context("no SKU")?.sku;
        let found = "SELECT sku_id, price FROM skus WHERE brand = $1 AND sku = $2";
        let (sku_id, price) =
            sqlx::query_as(found).bind(orders.brand).bind(sku).fetch_one(&mut connection).await?;
        let meter = Meter::of(vec![("PostgreSQL", server)]);
        let (brand, currency) = (orders.brand, orders.currency);
        Ok(BatchLimit { connection, brand, currency, sku_id, price, meter, orders: 0 })
    }

    /// Commits batches of this many orders for some time. Returns the figures of the orders, and
    /// the time that each `COMMIT` alone took.
    pub(super) async fn round(&mut self, batch: usize, length: Duration) -> Result<(Sample, Histogram)> {
        let (mut latency, mut commits) = (Histogram::default(), Histogram::default());
        let before = self.meter.read();
        let started = Instant::now();
        while started.elapsed() < length {
            let began = Instant::now();
            commits.record(self.commit(batch).await.context("commit a batch")?);
            (0..batch).for_each(|_| latency.record(began.elapsed()));
        }
        Ok((Sample::of(&latency, started.elapsed(), &self.meter, &before), commits))
    }

    /// Commits one batch. Returns the time of the `COMMIT`.
    async fn commit(&mut self, batch: usize) -> Result<Duration> {
        let at = i64::try_from(std::time::UNIX_EPOCH.elapsed()?.as_micros())?;
        let (mut ids, mut keys): (Vec<Uuid>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
        for _ in 0..batch {
            self.orders += 1;
            ids.push(order_id(at));
            keys.push(Sha256::digest(format!("limit-{}", self.orders)).to_vec());
        }
        let (values, units) = (vec![vec![1_u8; 44]; batch], i64::try_from(batch)?);
        let mut transaction = self.connection.begin().await?;
        let positions: Vec<i64> = sqlx::query_scalar(SETTLE)
            .bind(&keys)
            .bind(self.brand)
            .bind(&ids)
            .bind(&keys)
            .bind(at)
            .fetch_all(&mut *transaction)
            .await?;
        ensure!(positions.len() == batch, "{} of {batch} keys are new", positions.len());
        let write = sqlx::query(WRITE)
            .bind(&ids)
            .bind(self.brand)
            .bind(self.currency)
            .bind(self.price)
            .bind(at)
            .bind(&positions)
            .bind(self.sku_id)
            .bind(&values)
            .bind(units);
        ensure!(write.execute(&mut *transaction).await?.rows_affected() == 1, "the stock is used up");
        let began = Instant::now();
        transaction.commit().await?;
        Ok(began.elapsed())
    }
}
