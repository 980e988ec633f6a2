//! The statements of one transaction that the flow of a batch needs.
//!
//! PostgreSQL and SQLite implement them by binding values and decoding rows. The implementations
//! decide nothing.

use bridge_protocol::domain::UnixMicros;
use uuid::Uuid;

use super::rows::{FactRows, LockedRow, NewRows, UnitsRow, WrittenRows};
use crate::database::{Transaction, handed_over};
use crate::orders::planner::{Awaited, CustomerTag};

/// Behaviour at a row that another session holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locking {
    /// Skip the row. A request that needs it is set apart, and no other request waits.
    Skips,
    /// Wait for the row, at most for the connection's lock time-out.
    Waits,
}

/// Names of the rows from which a batch is decided.
#[derive(Debug, Default)]
pub(super) struct FactKeys<'a> {
    /// Brands of the batch.
    pub(super) brands: Vec<&'a str>,
    /// SKUs that are ordered, as pairs of brand and SKU.
    pub(super) named: Vec<(&'a str, &'a str)>,
    /// Rows of SKUs to which cancellations return units.
    pub(super) sku_ids: Vec<i64>,
    /// Idempotency keys.
    pub(super) keys: Vec<&'a [u8]>,
    /// Orders to cancel.
    pub(super) cancels: Vec<Uuid>,
    /// Customers who order, as pairs of brand and customer. Empty if no launch is locked.
    pub(super) customers: Vec<(&'a str, CustomerTag)>,
    /// The locked launches. A database with one writer at a time does not use them.
    pub(super) launches: Vec<i64>,
}

/// The statements of one transaction.
pub(super) trait Statements {
    /// Returns the allocated units of these orders, and the launches that sold them.
    async fn units(&mut self, orders: &[Uuid]) -> sqlx::Result<Vec<UnitsRow>>;

    /// Waits for a held row and locks it. The transaction holds no other lock in the meantime.
    async fn wait_for(&mut self, awaited: &Awaited) -> sqlx::Result<()>;

    /// Locks the stock of SKUs, given as pairs of brand and SKU and as rows, and the launches that
    /// have not ended and sell one of them, and these launches. The order of locks is always the
    /// same. Returns the rows that it locked. `None` means all of them, in a database with one
    /// writer at a time.
    async fn lock_stock(
        &mut self,
        named: &[(&str, &str)],
        sku_ids: &[i64],
        launches: &[i64],
        locking: Locking,
    ) -> sqlx::Result<Option<Vec<LockedRow>>>;

    /// Locks the rows of those orders that were placed. Returns the locked ones, as
    /// [`Self::lock_stock`] does.
    async fn lock_orders(&mut self, orders: &[Uuid], locking: Locking) -> sqlx::Result<Option<Vec<Uuid>>>;

    /// Returns the rows from which the batch is decided: the currencies of brands, the offers of
    /// SKUs with their launches, the outcomes under the keys, the states of the orders to cancel,
    /// and the units of orders that stand which the customers have from the launches. It must run
    /// after the locks. PostgreSQL does it in one statement, to save round trips.
    async fn facts(&mut self, keys: &FactKeys<'_>) -> sqlx::Result<FactRows>;

    /// Writes the new rows of a batch, moves stock, and moves units of launches. If a key is not
    /// new, the caller rolls back. PostgreSQL does it in one statement, to save round trips.
    async fn write(&mut self, rows: &NewRows<'_>, at: UnixMicros) -> sqlx::Result<WrittenRows>;

    /// Cancels orders. Returns the number of orders that were placed and are cancelled now.
    async fn cancel_orders(&mut self, orders: &[Uuid], at: UnixMicros) -> sqlx::Result<u64>;

    /// Marks the units of cancelled orders as given back to their launches.
    async fn give_back(&mut self, orders: &[Uuid], at: UnixMicros) -> sqlx::Result<()>;
}

impl Statements for Transaction {
    handed_over! {
        fn units(orders: &[Uuid]) -> Vec<UnitsRow>;
        fn wait_for(awaited: &Awaited) -> ();
        fn lock_stock(named: &[(&str, &str)], sku_ids: &[i64], launches: &[i64], locking: Locking) -> Option<Vec<LockedRow>>;
        fn lock_orders(orders: &[Uuid], locking: Locking) -> Option<Vec<Uuid>>;
        fn facts(keys: &FactKeys<'_>) -> FactRows;
        fn write(rows: &NewRows<'_>, at: UnixMicros) -> WrittenRows;
        fn cancel_orders(orders: &[Uuid], at: UnixMicros) -> u64;
        fn give_back(orders: &[Uuid], at: UnixMicros) -> ();
    }
}
