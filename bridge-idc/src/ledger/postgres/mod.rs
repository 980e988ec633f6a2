//! PostgreSQL: binds arrays to the statements beside this file and decodes their rows.

use std::net::IpAddr;
use std::time::Duration;

use bridge_protocol::domain::UnixMicros;
use bridge_runtime::config::Secret;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use uuid::Uuid;

use super::error::{Blame, LedgerError};
use super::payments::Tx;
use super::rows::{
    BrandRow, ForSaleRow, LineRow, OrderRow, OutcomeRow, PersonalRow, PositionRow, SettledRow, StandingRow,
    StockRow, UnitsRow,
};
use super::transaction::{self, Database, Open};

/// Settings of each connection.
const SETTINGS: [(&str, &str); 6] = [
    // Whoever waits longer for a row is answered that the database does not answer, and the row's holder is looked for.
    ("lock_timeout", "5s"),
    // An agent that is cut off in the middle of a transaction keeps its locks no longer than this.
    ("idle_in_transaction_session_timeout", "15s"),
    // Every statement goes by a key. A plan that was made while a table was small is kept, and would scan it for ever.
    ("enable_seqscan", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    // The price that the planner puts on a sequential scan now would make it compile the query first.
    ("jit", "off"),
    // And so would starting processes for a page of a thousand rows: a generic plan takes it for a tenth of the table.
    ("max_parallel_workers_per_gather", "0"),
];

/// A ledger in PostgreSQL.
pub(super) struct Postgres {
    pub(super) pool: PgPool,
}

impl Postgres {
    /// Connects when first used: the database may come up later than the agent.
    pub(super) fn open(url: &str, password: Option<&Secret>, connections: u32) -> Result<Self, LedgerError> {
        let mut options: PgConnectOptions = url.parse().map_err(LedgerError::Unavailable)?;
        if let Some(password) = password {
            let password =
                std::str::from_utf8(password.expose()).map_err(|_| LedgerError::PasswordNotText)?;
            options = options.password(password);
        }
        let options = options.application_name("bridge-idc").options(SETTINGS).disable_statement_logging();
        // Connecting is tried again for this long: a server that is down is said to be so soon, and callers do not wait.
        let pool = PgPoolOptions::new().max_connections(connections).acquire_timeout(Duration::from_secs(2));
        Ok(Self { pool: pool.connect_lazy_with(options) })
    }
}

/// Why what goes to the database at this URL could be read or changed on its way; `None` if nobody is in between, or the
/// server has to prove that it is the one that the URL names. The driver's own environment counts, as when it connects.
pub(crate) fn unprotected(url: &str) -> Option<&'static str> {
    let Ok(options) = url.parse::<PgConnectOptions>() else {
        return Some("it is no URL that PostgreSQL's driver can read");
    };
    let host = options.get_host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_here = options.get_socket().is_some()
        || host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.is_loopback());
    match options.get_ssl_mode() {
        _ if is_here => None,
        PgSslMode::VerifyFull => None,
        // The driver trusts the public authorities beside the one that is named.
        PgSslMode::VerifyCa => Some("sslmode=verify-ca takes anybody's certificate of any public authority"),
        PgSslMode::Require => Some("sslmode=require takes any certificate"),
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => {
            Some("it is on another host, and without sslmode=verify-full it may be reached in clear text")
        }
    }
}

/// Whose fault a refusal is, by the class of its SQLSTATE (PostgreSQL manual, appendix A).
pub(super) fn blame(state: &str) -> Blame {
    match state.get(..2) {
        // data exception, integrity constraint violation, WITH CHECK OPTION violation, raised by a trigger
        Some("22" | "23" | "44" | "P0") => Blame::Request,
        // serialization failure, deadlock
        Some("40") => Blame::Contention,
        _ => Blame::Database,
    }
}

impl Database for Postgres {
    type Transaction = Transaction;

    async fn begin(&self) -> sqlx::Result<Transaction> {
        // Each statement sees what was committed before it began: after a lock, also what its last holder wrote.
        Open::begin(self.pool.acquire().await?, "BEGIN ISOLATION LEVEL READ COMMITTED").await.map(Transaction)
    }
}

/// A transaction on PostgreSQL.
pub(super) struct Transaction(Open<sqlx::Postgres>);

impl transaction::Transaction for Transaction {
    async fn brands(&mut self, brands: &[&str]) -> sqlx::Result<Vec<BrandRow>> {
        sqlx::query_as(include_str!("brands.sql")).bind(brands).fetch_all(self.0.connection()).await
    }

    async fn units(&mut self, orders: &[Uuid]) -> sqlx::Result<Vec<UnitsRow>> {
        sqlx::query_as(include_str!("units.sql")).bind(orders).fetch_all(self.0.connection()).await
    }

    async fn lock_stock(&mut self, named: &[(&str, &str)], sku_ids: &[i64]) -> sqlx::Result<Vec<StockRow>> {
        sqlx::query_as(include_str!("lock_stock.sql"))
            .bind(column(named, |(brand, _)| *brand))
            .bind(column(named, |(_, sku)| *sku))
            .bind(sku_ids)
            .fetch_all(self.0.connection())
            .await
    }

    async fn settled(&mut self, keys: &[&[u8]]) -> sqlx::Result<Vec<SettledRow>> {
        sqlx::query_as(include_str!("settled.sql")).bind(keys).fetch_all(self.0.connection()).await
    }

    async fn standing(&mut self, orders: &[Uuid]) -> sqlx::Result<Vec<StandingRow>> {
        sqlx::query_as(include_str!("standing.sql")).bind(orders).fetch_all(self.0.connection()).await
    }

    async fn insert_outcomes(
        &mut self,
        rows: &[OutcomeRow<'_>],
        at: UnixMicros,
    ) -> sqlx::Result<Vec<PositionRow>> {
        sqlx::query_as(include_str!("insert_outcomes.sql"))
            .bind(column(rows, |row| row.key))
            .bind(column(rows, |row| row.brand))
            .bind(column(rows, |row| row.operation))
            .bind(column(rows, |row| row.order))
            .bind(column(rows, |row| row.fingerprint))
            .bind(column(rows, |row| row.outcome.code()))
            .bind(column(rows, |row| row.outcome.sku().map(|sku| sku.as_str())))
            .bind(column(rows, |row| row.outcome.price().map(|price| price.amount())))
            .bind(column(rows, |row| row.outcome.price().map(|price| price.currency().to_string())))
            .bind(at.get())
            .fetch_all(self.0.connection())
            .await
    }

    async fn insert_orders(&mut self, rows: &[OrderRow<'_>], at: UnixMicros) -> sqlx::Result<()> {
        let insert = sqlx::query(include_str!("insert_orders.sql"))
            .bind(column(rows, |row| row.order))
            .bind(column(rows, |row| row.brand))
            .bind(column(rows, |row| row.position))
            .bind(column(rows, |row| row.terms.customer_reference()))
            .bind(column(rows, |row| row.terms.currency().to_string()))
            .bind(column(rows, |row| row.terms.shipping_fee().amount()))
            .bind(column(rows, |row| row.terms.total().amount()))
            .bind(at.get());
        insert.execute(self.0.connection()).await.map(drop)
    }

    async fn insert_lines(&mut self, rows: &[LineRow]) -> sqlx::Result<()> {
        let insert = sqlx::query(include_str!("insert_lines.sql"))
            .bind(column(rows, |row| row.order))
            .bind(column(rows, |row| row.line_no))
            .bind(column(rows, |row| row.sku_id))
            .bind(column(rows, |row| row.quantity))
            .bind(column(rows, |row| row.unit_price));
        insert.execute(self.0.connection()).await.map(drop)
    }

    async fn insert_personal(&mut self, rows: &[PersonalRow<'_>]) -> sqlx::Result<()> {
        let mut insert = sqlx::query(include_str!("insert_personal.sql"))
            .bind(column(rows, |row| row.order))
            .bind(column(rows, |row| row.personal.key_version))
            .bind(column(rows, |row| row.personal.wrapped_key.as_slice()));
        for field in 0..PERSONAL_FIELDS {
            insert = insert.bind(column(rows, |row| row.personal.fields[field].as_deref()));
        }
        insert.execute(self.0.connection()).await.map(drop)
    }

    async fn cancel_orders(&mut self, orders: &[Uuid], at: UnixMicros) -> sqlx::Result<u64> {
        let update = sqlx::query(include_str!("cancel_orders.sql")).bind(orders).bind(at.get());
        Ok(update.execute(self.0.connection()).await?.rows_affected())
    }

    async fn move_stock(&mut self, moves: &[(i64, i64)]) -> sqlx::Result<u64> {
        let update = sqlx::query(include_str!("move_stock.sql"))
            .bind(column(moves, |(sku_id, _)| *sku_id))
            .bind(column(moves, |(_, units)| *units));
        Ok(update.execute(self.0.connection()).await?.rows_affected())
    }

    async fn add_brands(&mut self, brands: &[(&str, &str)]) -> sqlx::Result<u64> {
        let insert = sqlx::query(include_str!("add_brands.sql"))
            .bind(column(brands, |(brand, _)| *brand))
            .bind(column(brands, |(_, currency)| *currency));
        Ok(insert.execute(self.0.connection()).await?.rows_affected())
    }

    async fn add_skus(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<u64> {
        let insert = sqlx::query(include_str!("add_skus.sql"))
            .bind(column(rows, |row| row.brand))
            .bind(column(rows, |row| row.sku))
            .bind(column(rows, |row| row.price));
        Ok(insert.execute(self.0.connection()).await?.rows_affected())
    }

    async fn set_prices(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<()> {
        let update = sqlx::query(include_str!("set_prices.sql"))
            .bind(column(rows, |row| row.brand))
            .bind(column(rows, |row| row.sku))
            .bind(column(rows, |row| row.price));
        update.execute(self.0.connection()).await.map(drop)
    }

    async fn set_stock(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<()> {
        let upsert = sqlx::query(include_str!("set_stock.sql"))
            .bind(column(rows, |row| row.brand))
            .bind(column(rows, |row| row.sku))
            .bind(column(rows, |row| row.quantity));
        upsert.execute(self.0.connection()).await.map(drop)
    }

    fn payments(&mut self) -> Tx<'_> {
        Tx::Postgres(self.0.connection())
    }

    async fn commit(self) -> sqlx::Result<()> {
        self.0.commit().await
    }
}

/// Columns of `order_personal` that hold a value.
const PERSONAL_FIELDS: usize = bridge_protocol::domain::PersonalField::ALL.len();

/// One array for `UNNEST`: a column of the rows.
fn column<'a, R, V>(rows: &'a [R], value: impl Fn(&'a R) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}
