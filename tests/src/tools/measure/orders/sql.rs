//! Orders without Bridge: the storefront's SQL, over TLS, from the far side of the line.
//!
//! It is written with care. Each order is one transaction of five round trips, and the stock is
//! updated last, so its row is locked for one round trip and the commit only. Statements are
//! prepared, and each client keeps its connection, as in a pool in which nobody waits. The ids of
//! all SKUs are known, so no order has to look them up. Stock is locked in one order, so no two
//! orders block each other for ever. The tables are those of Bridge's ledger, without its triggers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Pid;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnectOptions;
use sqlx::types::Uuid;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::mix::{Mix, Orders};
use super::sample::Sample;
use crate::testkit::histogram::Histogram;
use crate::testkit::plan::OrderStep;
use crate::tools::measure::cpu::Meter;

/// Inserts the idempotency key. No row comes back if it is in use.
const SETTLE: &str =
    "INSERT INTO outcomes (key, brand, operation, order_id, fingerprint, outcome, committed_at)
    VALUES ($1, $2, 'place', $3, $4, 'placed', $5) ON CONFLICT (key) DO NOTHING RETURNING position";
/// Inserts the order, its lines and its personal data, which a careful engineer sends together.
const WRITE: &str = "WITH placed AS (
        INSERT INTO orders (order_id, brand, position, customer_reference, currency, shipping_fee, total, committed_at)
        VALUES ($1, $2, $3, $4, $5, 0, $6, $7)
    ), lines AS (
        INSERT INTO order_lines (order_id, line_no, sku_id, quantity, unit_price)
        SELECT $1, line.number - 1, line.sku_id, line.quantity, line.price
        FROM UNNEST($8::bigint[], $9::bigint[], $10::bigint[]) WITH ORDINALITY AS line (sku_id, quantity, price, number)
    )
    INSERT INTO order_personal (order_id, key_version, wrapped_key, customer_name, customer_phone, customer_email,
        delivery_name, delivery_phone, delivery_address, delivery_note)
    VALUES ($1, 1, $11, $12, $13, $14, $15, $16, $17, $18)";
/// Takes the units, if all are there.
const TAKE: &str = "WITH held AS (
        SELECT stock.sku_id, wanted.units
        FROM stock JOIN UNNEST($1::bigint[], $2::bigint[]) AS wanted (sku_id, units) USING (sku_id)
        ORDER BY stock.sku_id FOR UPDATE OF stock
    )
    UPDATE stock SET available = stock.available - held.units, sold = stock.sold + held.units
    FROM held WHERE stock.sku_id = held.sku_id AND stock.available >= held.units";

/// Personal values of an order, as the table has columns for them.
const PERSONAL: usize = 7;

/// The clients, with their open connections.
#[derive(Debug)]
pub(super) struct Sql {
    clients: Vec<Client>,
    shelves: Vec<Shelf>,
    meter: Meter,
    rounds: usize,
}

#[derive(Debug)]
struct Client(PgConnection);

/// Orders of a mix, as the storefront's code has them.
#[derive(Debug)]
struct Shelf {
    mix: Mix,
    orders: Arc<Vec<SqlOrder>>,
}

#[derive(Debug)]
struct SqlOrder {
    brand: &'static str,
    currency: &'static str,
    total: i64,
    sku_ids: Vec<i64>,
    quantities: Vec<i64>,
    prices: Vec<i64>,
    personal: Vec<String>,
}

/// Arrival of orders.
#[derive(Clone, Debug)]
pub(super) enum Arrival {
    /// Each client places the next order as soon as the last is committed, for this time.
    Closed(Duration),
    /// The orders come at these moments, whatever has been committed.
    Open(Arc<Vec<Duration>>),
}

impl Sql {
    /// Connects this many clients, and looks up the SKUs of all mixes. The server's process is for
    /// its CPU time.
    pub(super) async fn connect(
        options: &PgConnectOptions,
        clients: usize,
        mixes: &[Orders],
        server: Pid,
    ) -> Result<Sql> {
        let mut connections = Vec::with_capacity(clients);
        for _ in 0..clients {
            connections.push(Client(options.connect().await.context("connect across the line")?));
        }
        let mut shelves = Vec::new();
        let Client(first) = connections.first_mut().context("no client")?;
        for orders in mixes {
            let skus = "SELECT sku, sku_id FROM skus WHERE brand = $1";
            let skus: Vec<(String, i64)> =
                sqlx::query_as(skus).bind(orders.brand).fetch_all(&mut *first).await?;
            let skus: HashMap<_, _> = skus.into_iter().collect();
            let known: Option<Vec<_>> =
                orders.steps.iter().map(|order| SqlOrder::of(orders, order, &skus)).collect();
            let known = known.with_context(|| format!("a SKU of {} is missing", orders.brand))?;
            shelves.push(Shelf { mix: orders.mix, orders: Arc::new(known) });
        }
        let meter = Meter::of(vec![("PostgreSQL", server)]);
        Ok(Sql { clients: connections, shelves, meter, rounds: 0 })
    }

    /// Places orders with the first `clients` clients.
    pub(super) async fn round(&mut self, mix: Mix, clients: usize, arrival: Arrival) -> Result<Sample> {
        self.rounds += 1;
        let keys = format!("sql-{}", self.rounds);
        let shelf = self.shelves.iter().find(|shelf| shelf.mix == mix).context("no orders of this mix")?;
        let next = Arc::new(AtomicUsize::new(0));
        let before = self.meter.read();
        let started = Instant::now();
        let mut working = JoinSet::new();
        for client in self.clients.drain(..clients.min(self.clients.len())) {
            let (orders, next, keys) = (Arc::clone(&shelf.orders), Arc::clone(&next), keys.clone());
            working.spawn(client.work(orders, next, keys, arrival.clone(), started));
        }
        let mut latency = Histogram::default();
        while let Some(ended) = working.join_next().await {
            let (client, own) = ended.context("a client panicked")??;
            self.clients.push(client);
            latency.merge(&own);
        }
        Ok(Sample::of(&latency, started.elapsed(), &self.meter, &before))
    }
}

impl SqlOrder {
    /// Returns [`None`] if a SKU is not in the database.
    fn of(orders: &Orders, order: &OrderStep, skus: &HashMap<String, i64>) -> Option<SqlOrder> {
        let number = |value: u64| i64::try_from(value).ok();
        let lines = order.lines.iter().map(|line| {
            let row = orders.stock.get(line.stock)?;
            Some((*skus.get(&row.sku)?, number(line.quantity)?, number(row.price_minor)?))
        });
        let lines = lines.collect::<Option<Vec<_>>>()?;
        let personal = order.planted.iter().cloned().chain(std::iter::repeat(String::new()));
        Some(SqlOrder {
            brand: orders.brand,
            currency: orders.currency,
            total: number(order.total_minor)?,
            sku_ids: lines.iter().map(|(sku_id, _, _)| *sku_id).collect(),
            quantities: lines.iter().map(|(_, quantity, _)| *quantity).collect(),
            prices: lines.iter().map(|(_, _, price)| *price).collect(),
            personal: personal.take(PERSONAL).collect(),
        })
    }
}

impl Client {
    async fn work(
        mut self,
        orders: Arc<Vec<SqlOrder>>,
        next: Arc<AtomicUsize>,
        keys: String,
        arrival: Arrival,
        started: Instant,
    ) -> Result<(Client, Histogram)> {
        let mut latency = Histogram::default();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let due = match &arrival {
                Arrival::Closed(length) if started.elapsed() < *length => Instant::now(),
                Arrival::Closed(_) => return Ok((self, latency)),
                Arrival::Open(moments) => {
                    let Some(moment) = moments.get(index) else { return Ok((self, latency)) };
                    let due = started + *moment;
                    sleep(due.saturating_duration_since(Instant::now())).await;
                    due
                }
            };
            let order = orders.get(index % orders.len().max(1)).context("no order of this mix")?;
            self.place(order, &format!("{keys}-{index}")).await.context("place an order with SQL")?;
            latency.record(due.elapsed());
        }
    }

    /// Places one order.
    async fn place(&mut self, order: &SqlOrder, key: &str) -> Result<()> {
        let at = i64::try_from(std::time::UNIX_EPOCH.elapsed()?.as_micros())?;
        let id = order_id(at);
        let mut transaction = self.0.begin().await?;
        let position: Option<i64> = sqlx::query_scalar(SETTLE)
            .bind(&Sha256::digest(key)[..])
            .bind(order.brand)
            .bind(id)
            .bind(&Sha256::digest(order.brand)[..])
            .bind(at)
            .fetch_optional(&mut *transaction)
            .await?;
        let position = position.context("the key is in use")?;
        let mut write = sqlx::query(WRITE)
            .bind(id)
            .bind(order.brand)
            .bind(position)
            .bind("customer")
            .bind(order.currency)
            .bind(order.total)
            .bind(at)
            .bind(&order.sku_ids)
            .bind(&order.quantities)
            .bind(&order.prices)
            .bind(&[1_u8; 44][..]);
        for value in &order.personal {
            write = write.bind(value.as_bytes());
        }
        write.execute(&mut *transaction).await?;
        let take = sqlx::query(TAKE).bind(&order.sku_ids).bind(&order.quantities);
        let taken = take.execute(&mut *transaction).await?.rows_affected();
        ensure!(taken == order.sku_ids.len() as u64, "{taken} of {} lines are in stock", order.sku_ids.len());
        transaction.commit().await?;
        Ok(())
    }
}

/// Makes an order's id that sorts by time, as that of Bridge does, so that it is appended to an
/// index.
pub(super) fn order_id(micros: i64) -> Uuid {
    let random = u128::from(rand::random::<u64>());
    Uuid::from_u128(u128::from(micros.unsigned_abs()) << 64 | random)
}
