//! What the flow asks of a database: the statements of one transaction, named for what they do.
//!
//! PostgreSQL and SQLite implement it by binding and decoding. They decide nothing.

use std::collections::HashSet;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Database as Driver, Executor};
use tokio::time::timeout;
use uuid::Uuid;

use bridge_protocol::domain::UnixMicros;

use super::LedgerError;
use super::rows::{
    BrandRow, ForSaleRow, LineRow, OfferRow, OrderRow, OutcomeRow, PersonalRow, PositionRow, SettledRow,
    StandingRow, UnitsRow,
};
use crate::import_file::parts::Held;
use crate::planner::Awaited;

/// How long a ROLLBACK may take.
const ROLLED_BACK_WITHIN: Duration = Duration::from_secs(1);

/// A database that transactions are begun on.
pub(super) trait Database {
    /// Its transactions.
    type Transaction: Transaction;

    /// Begins one that may write.
    async fn begin(&self) -> sqlx::Result<Self::Transaction>;

    /// Begins one of the committer's, on a connection that nothing else uses.
    async fn begin_batch(&self) -> sqlx::Result<Self::Transaction>;
}

/// Gives back what a transaction locked, so that the next try does not meet it. If the database does not answer, the connection
/// is closed.
pub(super) async fn give_up(transaction: impl Transaction) {
    if let Ok(Err(error)) = timeout(ROLLED_BACK_WITHIN, transaction.rollback()).await {
        tracing::debug!(%error, "a transaction was not rolled back, its connection is closed");
    }
}

/// Whether to wait for a row that somebody else holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locking {
    /// It is left out: who needs it is set apart, and nobody else waits.
    Skips,
    /// It is waited for, as long as the connection's time-out says.
    Waits,
}

/// One transaction. Dropped without a commit, it is rolled back.
pub(super) trait Transaction: Sized {
    async fn brands(&mut self, brands: &[&str]) -> sqlx::Result<Vec<BrandRow>>;

    /// What these orders allocated.
    async fn units(&mut self, orders: &[Uuid]) -> sqlx::Result<Vec<UnitsRow>>;

    /// Waits for something that somebody else holds, and takes it. Nothing else is held meanwhile.
    async fn wait_for(&mut self, awaited: &Awaited) -> sqlx::Result<()>;

    /// Locks the stock of SKUs named as brand and SKU, and of rows, always in one order; returns which rows it got. `None`
    /// says all of them, in a database with one writer at a time.
    async fn lock_stock(
        &mut self,
        named: &[(&str, &str)],
        sku_ids: &[i64],
        locking: Locking,
    ) -> sqlx::Result<Option<Vec<i64>>>;

    /// Locks the rows of these orders, where they were placed; returns as [`Self::lock_stock`] does.
    async fn lock_orders(&mut self, orders: &[Uuid], locking: Locking) -> sqlx::Result<Option<Vec<Uuid>>>;

    /// What these brands sell in and what they offer of the named SKUs and of the rows: to be read behind the lock.
    async fn offers(
        &mut self,
        brands: &[&str],
        named: &[(&str, &str)],
        sku_ids: &[i64],
    ) -> sqlx::Result<Vec<OfferRow>>;

    async fn settled(&mut self, keys: &[&[u8]]) -> sqlx::Result<Vec<SettledRow>>;

    async fn standing(&mut self, orders: &[Uuid]) -> sqlx::Result<Vec<StandingRow>>;

    /// Returns the positions of those that were new.
    async fn insert_outcomes(
        &mut self,
        rows: &[OutcomeRow<'_>],
        at: UnixMicros,
    ) -> sqlx::Result<Vec<PositionRow>>;

    async fn insert_orders(&mut self, rows: &[OrderRow<'_>], at: UnixMicros) -> sqlx::Result<()>;

    async fn insert_lines(&mut self, rows: &[LineRow]) -> sqlx::Result<()>;

    async fn insert_personal(&mut self, rows: &[PersonalRow<'_>]) -> sqlx::Result<()>;

    /// Returns how many were placed and are cancelled now.
    async fn cancel_orders(&mut self, orders: &[Uuid], at: UnixMicros) -> sqlx::Result<u64>;

    /// Takes (SKU row, units newly sold); returns how many rows had the units.
    async fn move_stock(&mut self, moves: &[(i64, i64)]) -> sqlx::Result<u64>;

    /// Before an import's part: waits for what somebody else holds, with no stock in its hands, and takes it.
    async fn wait_for_sale(&mut self, awaited: Option<&Held>) -> sqlx::Result<()>;

    /// Locks what is there of these SKUs and changes; names those, by brand and SKU, that somebody else holds, which are not
    /// waited for.
    async fn lock_for_sale(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<HashSet<(String, String)>>;

    /// Returns how many of these (brand, currency) were new.
    async fn add_brands(&mut self, brands: &[(&str, &str)]) -> sqlx::Result<u64>;

    /// Returns how many were new; the others keep their price.
    async fn add_skus(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<u64>;

    async fn set_prices(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<()>;

    /// Makes so many units available from now on.
    async fn set_stock(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<()>;

    /// Has what is left of the payments of cancelled orders given back.
    async fn refund_cancelled(&mut self, orders: &[Uuid]) -> Result<(), LedgerError>;

    async fn commit(self) -> sqlx::Result<()>;

    /// Gives back every lock at once; the connection of a transaction that is dropped does so when the server notices.
    async fn rollback(self) -> sqlx::Result<()>;
}

/// A pool's connection with a transaction open on it.
///
/// sqlx's own returns its connection to the pool whatever happened, and waits there without limit if the line is dead;
/// this one closes a connection whose transaction did not end, which rolls it back.
pub(crate) struct Open<D: Driver> {
    connection: PoolConnection<D>,
    ended: bool,
}

impl<D: Driver> Open<D>
where
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
{
    pub(crate) async fn begin(connection: PoolConnection<D>, statement: &'static str) -> sqlx::Result<Self> {
        let mut open = Self { connection, ended: false };
        open.connection().execute(statement).await?;
        Ok(open)
    }

    pub(crate) async fn commit(mut self) -> sqlx::Result<()> {
        self.connection().execute("COMMIT").await?;
        self.ended = true;
        Ok(())
    }

    pub(crate) async fn rollback(mut self) -> sqlx::Result<()> {
        self.connection().execute("ROLLBACK").await?;
        self.ended = true;
        Ok(())
    }

    pub(crate) fn connection(&mut self) -> &mut D::Connection {
        &mut self.connection
    }
}

impl<D: Driver> Drop for Open<D> {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.close_on_drop();
        }
    }
}
