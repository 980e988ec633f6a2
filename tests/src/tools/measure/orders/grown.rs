//! Orders with a ledger that has grown: the same orders with an empty ledger and with one that has
//! millions of orders, in turns.
//!
//! The orders of the grown ledger are written with SQL, because placing them would take hours. They
//! have the sizes of Bridge's own rows; keys are hashes, so they are spread over their index, and
//! ids sort by time, as those of Bridge do. Both bridges run all the time, and have the same line.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Pid;
use sqlx::PgConnection;

use super::across::Across;
use super::mix::{Mix, Orders};
use super::sample::{Sample, said};
use super::{count_in, without_tls};
use crate::testkit::postgres::Postgres;
use crate::tools::measure::draw::Draw;
use crate::tools::measure::freshness::ROUND_TRIP;
use crate::tools::measure::peers;
use crate::tools::measure::progress::{Progress, tell};
use crate::tools::measure::row::{Pair, Row};

/// Orders that one statement writes.
const PART: u64 = 250_000;
/// Writes orders from number $1 to $2 of brand $3, each of one unit of SKU $4.
const FILL: &str = "WITH settled AS (
        INSERT INTO outcomes (key, brand, operation, order_id, fingerprint, outcome, committed_at)
        SELECT sha256(number::text::bytea), $3, 'place',
            ('018f0000-0000-7000-8000-' || lpad(to_hex(number), 12, '0'))::uuid,
            sha256(number::text::bytea), 'placed', 1700000000000000 + number
        FROM generate_series($1::bigint, $2::bigint) AS number
        RETURNING order_id, position
    ), placed AS (
        INSERT INTO orders (order_id, brand, position, customer_reference, currency, shipping_fee, total, committed_at)
        SELECT order_id, $3, position, 'c-' || position, 'KRW', 3000, 222000, 1700000000000000 + position FROM settled
    ), lines AS (
        INSERT INTO order_lines (order_id, line_no, sku_id, quantity, unit_price)
        SELECT order_id, 0, $4, 1, 219000 FROM settled
    )
    INSERT INTO order_personal (order_id, key_version, wrapped_key, customer_name, customer_phone, customer_email,
        delivery_name, delivery_phone, delivery_postal_code, delivery_address, delivery_country, delivery_note)
    SELECT order_id, 1, decode(repeat('a5', 60), 'hex'), value, value, value, value, value, value, value, value, value
    FROM settled CROSS JOIN (SELECT decode(repeat('5a', 44), 'hex') AS value) AS same";
/// Brings the tables to the state in which a database that grew slowly has them.
const SETTLE: &str = "VACUUM (ANALYZE) outcomes, orders, order_lines, order_personal; CHECKPOINT";

/// Measures this number of rounds with a ledger of `orders` orders. Both bridges use the folder
/// `dir`.
///
/// # Errors
///
/// Fails if a bridge cannot be started, or an order is not placed.
pub async fn measure(
    dir: &Path,
    orders: u64,
    rounds: usize,
    length: Duration,
    draw: &mut Draw,
) -> Result<Vec<Row>> {
    let cluster = Box::pin(Postgres::start_with(peers::source())).await?;
    let server = cluster.server().context("PostgreSQL has ended")?;
    let hot = Orders::of(Mix::HotSku)?.context("no hot SKU")?;
    let mixes = [hot];
    let mut sides = Vec::new();
    for name in ["empty", "grown"] {
        sides.push(Box::pin(side(&cluster, dir, name, &mixes, server)).await?);
    }
    fill(&mut cluster.connect("grown").await?, &mixes[0], orders).await.context("fill the ledger")?;
    let (callers, places) = (512, [0, 1]);
    let mut rate = 0;
    let mut samples: [Vec<Sample>; 2] = Default::default();
    let progress = Progress::of("grown", rounds);
    // The first round is dropped: it opens connections and fills caches.
    for round in 0..=rounds {
        for place in draw.order(&places) {
            let count = count_in(rate, length).max(4 * callers);
            let sample = sides[place].closed(&mixes[0], callers, count).await?;
            rate = sample.per_second;
            if round > 0 {
                samples[place].push(sample);
            }
        }
        progress.step();
    }
    let [empty, grown] = &samples;
    let pairs = empty.iter().zip(grown);
    let pairs =
        pairs.map(|(empty, grown)| Pair { baseline: empty.per_second, bridge: grown.per_second }).collect();
    let against = "Bridge, empty ledger";
    let notes = [said("empty", empty), said(&format!("with {orders} orders"), grown)];
    Ok(vec![Row::of_medians("hot_sku_grown_vs_empty", against, "orders/s", pairs, None).noting(notes)])
}

async fn side(cluster: &Postgres, dir: &Path, name: &str, mixes: &[Orders], server: Pid) -> Result<Across> {
    let database = cluster.create_database(name).await.map(without_tls)?;
    let across = Across::start(&dir.join(name), database, mixes, server, false).await?;
    across.site().line.delay(ROUND_TRIP);
    Ok(across)
}

/// Writes `orders` orders into a ledger.
async fn fill(ledger: &mut PgConnection, hot: &Orders, orders: u64) -> Result<()> {
    tell(&format!("writing {orders} orders into a ledger"));
    let progress = Progress::of("orders of the ledger", usize::try_from(orders.div_ceil(PART))?);
    let sku = &hot.stock.first().context("no SKU")?.sku;
    let sku_id: i64 = sqlx::query_scalar("SELECT sku_id FROM skus WHERE brand = $1 AND sku = $2")
        .bind(hot.brand)
        .bind(sku)
        .fetch_one(&mut *ledger)
        .await?;
    let mut written = 0;
    while written < orders {
        let end = (written + PART).min(orders);
        let (from, to) = (i64::try_from(written + 1)?, i64::try_from(end)?);
        sqlx::query(FILL).bind(from).bind(to).bind(hot.brand).bind(sku_id).execute(&mut *ledger).await?;
        written = end;
        progress.step();
    }
    for statement in SETTLE.split("; ") {
        sqlx::query(statement).execute(&mut *ledger).await?;
    }
    Ok(())
}
