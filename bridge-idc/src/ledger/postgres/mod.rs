//! PostgreSQL: binds arrays to the statements beside this file and decodes their rows.

/// What each connection is asked for, and whether it lasts.
pub(crate) mod session;

/// COMMITs that come with a warning.
mod warned;

/// What somebody else holds and an import needs.
pub(crate) mod held;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::domain::UnixMicros;
use bridge_runtime::config::Secret;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use uuid::Uuid;

use self::held::{Key, Touched};
use self::warned::Warned;
use super::error::{Blame, LedgerError};
use super::payments::{self, Tx};
use super::rows::{
    BrandRow, ForSaleRow, LineRow, OfferRow, OrderRow, OutcomeRow, PersonalRow, PositionRow, SettledRow,
    StandingRow, UnitsRow,
};
use super::transaction::{self, Database, Locking, Open};
use super::{AWAITED_AT_ONCE, NotReady};
use crate::import_file::parts::Held;
use crate::planner::Awaited;

/// Settings of each connection.
const SETTINGS: [(&str, &str); 5] = [
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

/// Whoever waits longer for a row is told so, and the row's holder is looked for.
const PATIENT: [(&str, &str); 1] = [("lock_timeout", "5s")];

/// How long a batch waits for what somebody else holds and no statement can leave out, a table for one: others wait behind it.
const LOCK_TIMEOUT: &str = "500ms";

/// What batches have of their own.
const OF_BATCHES: [(&str, &str); 2] = [
    ("lock_timeout", LOCK_TIMEOUT),
    // A role's or a database's own limit, shorter than a lock is waited for, would make a batch that waits look like one whose
    // statement fails. Nor may it end a COMMIT that waits for a standby. The flow has its own patience with all of them.
    ("statement_timeout", "0"),
];

/// How long a row is waited for by those who need it, and nobody else: then it is another row's turn.
const AWAITED_FOR: &str = "2s";

/// The committer's connections: one for the batch under way, one for each row that is waited for, and as many again while a
/// connection that was lost is being closed.
pub(super) const COMMITTERS: u32 = 10;
const _: () = assert!(COMMITTERS as usize == 2 * (1 + AWAITED_AT_ONCE));

/// A ledger in PostgreSQL.
pub(super) struct Postgres {
    /// For everybody's questions, payments, the catalogue.
    pub(super) pool: PgPool,
    /// For batches of orders, and for nothing else: whatever is asked meanwhile, they wait for nobody's connection.
    pub(super) committer: PgPool,
    warned: Arc<Warned>,
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
        let pool = |connections, own: &[(&str, &str)]| {
            // Connecting is tried again for this long: a server that is down is said to be so soon, and callers do not wait.
            let pool =
                PgPoolOptions::new().max_connections(connections).acquire_timeout(Duration::from_secs(2));
            let pool = pool.after_connect(|connection, _| Box::pin(session::make_durable(connection)));
            pool.connect_lazy_with(options.clone().options(own.iter().copied()))
        };
        let (pool, committer) = (pool(connections, &PATIENT), pool(COMMITTERS, &OF_BATCHES));
        Ok(Self { pool, committer, warned: Arc::default() })
    }

    /// Whether what is set for the connections is in force in them.
    pub(super) async fn check(&self) -> Result<(), NotReady> {
        for (pool, own) in [(&self.pool, PATIENT.as_slice()), (&self.committer, &OF_BATCHES)] {
            let mut connection = pool.acquire().await.map_err(NotReady::of_connecting)?;
            session::check(&mut connection, &[SETTINGS.as_slice(), own].concat()).await?;
        }
        Ok(())
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

/// Whose fault a refusal is, by its SQLSTATE and its class (PostgreSQL manual, appendix A). What is not listed says nothing of
/// the database as a whole: a trigger of the shop's can raise any.
pub(super) fn blame(state: &str) -> Blame {
    match (state.get(..2), state) {
        // lock_not_available: lock_timeout has passed, or NOWAIT was asked for
        (_, "55P03") => Blame::Holder,
        // query_canceled
        (_, "57014") => Blame::Cancel,
        // read_only_sql_transaction, idle_in_transaction_session_timeout, statement_completion_unknown
        (_, "25006" | "25P03" | "40003") => Blame::Database,
        // data exception, integrity constraint violation, WITH CHECK OPTION violation, raised by a trigger, more than a limit
        // of the program allows
        (Some("22" | "23" | "44" | "P0" | "54"), _) => Blame::Request,
        // serialization failure, deadlock
        (Some("40"), _) => Blame::Contention,
        // connection exception, invalid authorization, no such database, insufficient resources, operator intervention
        (Some("08" | "28" | "3D" | "53" | "57"), _) => Blame::Database,
        _ => Blame::Statement,
    }
}

impl Database for Postgres {
    type Transaction = Transaction;

    async fn begin(&self) -> sqlx::Result<Transaction> {
        begin_on(&self.pool, &self.warned).await
    }

    async fn begin_batch(&self) -> sqlx::Result<Transaction> {
        begin_on(&self.committer, &self.warned).await
    }
}

/// Each statement sees what was committed before it began: after a lock, also what its last holder wrote.
async fn begin_on(pool: &PgPool, warned: &Arc<Warned>) -> sqlx::Result<Transaction> {
    // Boxed: its state is large, and there is hardly ever anything to confirm.
    Box::pin(warned.confirm(pool)).await?;
    let open = Open::begin(pool.acquire().await?, "BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    Ok(Transaction(open, warned.clone()))
}

/// A transaction on PostgreSQL.
pub(super) struct Transaction(Open<sqlx::Postgres>, Arc<Warned>);

impl Transaction {
    /// For what happens to payments in this transaction.
    pub(super) fn payments(&mut self) -> Tx<'_> {
        Tx::Postgres(self.0.connection())
    }

    /// For what follows in this transaction.
    async fn set_lock_timeout(&mut self, time: &'static str) -> sqlx::Result<()> {
        let set = sqlx::query("SELECT set_config('lock_timeout', $1, true)").bind(time);
        set.execute(self.0.connection()).await.map(drop)
    }
}

impl transaction::Transaction for Transaction {
    async fn brands(&mut self, brands: &[&str]) -> sqlx::Result<Vec<BrandRow>> {
        sqlx::query_as(include_str!("brands.sql")).bind(brands).fetch_all(self.0.connection()).await
    }

    async fn units(&mut self, orders: &[Uuid]) -> sqlx::Result<Vec<UnitsRow>> {
        sqlx::query_as(include_str!("units.sql")).bind(orders).fetch_all(self.0.connection()).await
    }

    async fn wait_for(&mut self, awaited: &Awaited) -> sqlx::Result<()> {
        match awaited {
            Awaited::Stock { brand, sku } => {
                self.set_lock_timeout(AWAITED_FOR).await?;
                let wait = sqlx::query(include_str!("wait_for_stock.sql"));
                wait.bind(brand.as_str()).bind(sku.as_str()).execute(self.0.connection()).await?;
                self.set_lock_timeout(LOCK_TIMEOUT).await
            }
            Awaited::Order(order) => {
                self.set_lock_timeout(AWAITED_FOR).await?;
                self.lock_orders(&[order.as_uuid()], Locking::Waits).await?;
                self.set_lock_timeout(LOCK_TIMEOUT).await
            }
            // Nobody knows what to wait for: whatever it is, it is met again.
            Awaited::Brand(_) => Ok(()),
        }
    }

    async fn lock_stock(
        &mut self,
        named: &[(&str, &str)],
        sku_ids: &[i64],
        locking: Locking,
    ) -> sqlx::Result<Option<Vec<i64>>> {
        let sql = match locking {
            Locking::Skips => include_str!("lock_stock.sql"),
            Locking::Waits => include_str!("lock_stock_waiting.sql"),
        };
        let lock = sqlx::query_scalar(sql)
            .bind(column(named, |(brand, _)| *brand))
            .bind(column(named, |(_, sku)| *sku))
            .bind(sku_ids);
        lock.fetch_all(self.0.connection()).await.map(Some)
    }

    async fn lock_orders(&mut self, orders: &[Uuid], locking: Locking) -> sqlx::Result<Option<Vec<Uuid>>> {
        let sql = match locking {
            Locking::Skips => include_str!("lock_orders.sql"),
            Locking::Waits => include_str!("lock_orders_waiting.sql"),
        };
        sqlx::query_scalar(sql).bind(orders).fetch_all(self.0.connection()).await.map(Some)
    }

    async fn offers(
        &mut self,
        brands: &[&str],
        named: &[(&str, &str)],
        sku_ids: &[i64],
    ) -> sqlx::Result<Vec<OfferRow>> {
        sqlx::query_as(include_str!("offers.sql"))
            .bind(brands)
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

    async fn wait_for_sale(&mut self, awaited: Option<&Held>) -> sqlx::Result<()> {
        held::wait_for(self.0.connection(), awaited).await
    }

    async fn lock_for_sale(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<HashSet<Key>> {
        let keys = |rows: &[ForSaleRow<'_>]| -> Vec<Key> {
            rows.iter().map(|row| (row.brand.to_owned(), row.sku.to_owned())).collect()
        };
        let stock = keys(rows);
        let named = stock.iter().map(|(brand, sku)| serde_json::json!([brand, sku]));
        let named = serde_json::Value::from_iter(named).to_string();
        let prices: Vec<(String, String, i64)> =
            sqlx::query_as(include_str!("prices.sql")).bind(named).fetch_all(self.0.connection()).await?;
        let prices: HashMap<Key, i64> =
            prices.into_iter().map(|(brand, sku, price)| ((brand, sku), price)).collect();
        let changes = rows
            .iter()
            .zip(&stock)
            .filter(|(row, key)| prices.get(*key).is_some_and(|price| *price != row.price));
        let skus = changes.map(|(_, key)| key.clone()).collect();
        let touched = Touched { products: Vec::new(), skus, stock };
        Ok(held::lock(self.0.connection(), &touched).await?.skus)
    }

    async fn refund_cancelled(&mut self, orders: &[Uuid]) -> Result<(), LedgerError> {
        payments::refund_cancelled(&mut self.payments(), orders).await
    }

    async fn commit(self) -> sqlx::Result<()> {
        // Boxed, since what is around it would be that much larger.
        Box::pin(self.1.commit(self.0)).await
    }

    async fn rollback(self) -> sqlx::Result<()> {
        self.0.rollback().await
    }
}

/// Columns of `order_personal` that hold a value.
const PERSONAL_FIELDS: usize = bridge_protocol::domain::PersonalField::ALL.len();

/// One array for `UNNEST`: a column of the rows.
fn column<'a, R, V>(rows: &'a [R], value: impl Fn(&'a R) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}
