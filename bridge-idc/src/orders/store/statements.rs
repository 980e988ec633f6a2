//! The statements of one transaction that the flow of a batch needs.
//!
//! PostgreSQL and SQLite implement them by binding values and decoding rows. The implementations
//! decide nothing.

use bridge_protocol::domain::UnixMicros;
use uuid::Uuid;

use super::rows::{
    LockedRow, OfferRow, OutcomeRow, PlacedRows, PositionRow, PurchaseRow, PurchasedRow, SettledRow,
    StandingRow, UnitsRow,
};
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

    /// Returns the currency of each brand, and the offers of the SKUs and rows with their launches.
    /// It must run after the locks.
    async fn offers(
        &mut self,
        brands: &[&str],
        named: &[(&str, &str)],
        sku_ids: &[i64],
    ) -> sqlx::Result<Vec<OfferRow>>;

    /// Returns the units of orders that stand which these customers have from these launches, as
    /// pairs. It must run after the launches' locks.
    async fn purchases(&mut self, of: &[(i64, CustomerTag)]) -> sqlx::Result<Vec<PurchasedRow>>;

    async fn settled(&mut self, keys: &[&[u8]]) -> sqlx::Result<Vec<SettledRow>>;

    async fn standing(&mut self, orders: &[Uuid]) -> sqlx::Result<Vec<StandingRow>>;

    /// Inserts outcomes. Returns the positions of those whose key was new.
    async fn insert_outcomes(
        &mut self,
        rows: &[OutcomeRow<'_>],
        at: UnixMicros,
    ) -> sqlx::Result<Vec<PositionRow>>;

    /// Writes placed orders with all their rows, and moves stock as [`Self::move_stock`] does, with
    /// the same result. No part reads what another part writes, so PostgreSQL does all of it in one
    /// statement, to save round trips.
    async fn write_placed(
        &mut self,
        placed: &PlacedRows<'_>,
        moves: &[(i64, i64)],
        at: UnixMicros,
    ) -> sqlx::Result<u64>;

    /// Cancels orders. Returns the number of orders that were placed and are cancelled now.
    async fn cancel_orders(&mut self, orders: &[Uuid], at: UnixMicros) -> sqlx::Result<u64>;

    /// Moves stock, given as pairs of SKU row and units newly sold. Returns the number of rows that
    /// had the units.
    async fn move_stock(&mut self, moves: &[(i64, i64)]) -> sqlx::Result<u64>;

    /// Inserts units that placed orders have from launches.
    async fn insert_purchases(&mut self, rows: &[PurchaseRow<'_>]) -> sqlx::Result<()>;

    /// Marks the units of cancelled orders as given back to their launches.
    async fn give_back(&mut self, orders: &[Uuid], at: UnixMicros) -> sqlx::Result<()>;

    /// Moves units of launches, given as pairs of launch and units newly sold. Returns the number
    /// of launches that had the units.
    async fn move_launches(&mut self, moves: &[(i64, i64)]) -> sqlx::Result<u64>;
}

impl Statements for Transaction {
    handed_over! {
        fn units(orders: &[Uuid]) -> Vec<UnitsRow>;
        fn wait_for(awaited: &Awaited) -> ();
        fn lock_stock(named: &[(&str, &str)], sku_ids: &[i64], launches: &[i64], locking: Locking) -> Option<Vec<LockedRow>>;
        fn lock_orders(orders: &[Uuid], locking: Locking) -> Option<Vec<Uuid>>;
        fn offers(brands: &[&str], named: &[(&str, &str)], sku_ids: &[i64]) -> Vec<OfferRow>;
        fn purchases(of: &[(i64, CustomerTag)]) -> Vec<PurchasedRow>;
        fn settled(keys: &[&[u8]]) -> Vec<SettledRow>;
        fn standing(orders: &[Uuid]) -> Vec<StandingRow>;
        fn insert_outcomes(rows: &[OutcomeRow<'_>], at: UnixMicros) -> Vec<PositionRow>;
        fn write_placed(placed: &PlacedRows<'_>, moves: &[(i64, i64)], at: UnixMicros) -> u64;
        fn cancel_orders(orders: &[Uuid], at: UnixMicros) -> u64;
        fn move_stock(moves: &[(i64, i64)]) -> u64;
        fn insert_purchases(rows: &[PurchaseRow<'_>]) -> ();
        fn give_back(orders: &[Uuid], at: UnixMicros) -> ();
        fn move_launches(moves: &[(i64, i64)]) -> u64;
    }
}
