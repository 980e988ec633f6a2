//! What the flow asks of a database: the statements of one transaction, named for what they do.
//!
//! PostgreSQL and SQLite implement it by binding and decoding. They decide nothing.

use bridge_protocol::domain::UnixMicros;
use uuid::Uuid;

use super::rows::{OfferRow, OutcomeRow, PlacedRows, PositionRow, SettledRow, StandingRow, UnitsRow};
use crate::database::{Transaction, handed_over};
use crate::orders::planner::Awaited;

/// Whether to wait for a row that somebody else holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locking {
    /// It is left out: who needs it is set apart, and nobody else waits.
    Skips,
    /// It is waited for, as long as the connection's time-out says.
    Waits,
}

/// The statements of one transaction.
pub(super) trait Statements {
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

    /// Writes placed orders with all that belongs to them, and moves stock as [`Self::move_stock`] does; returns as that does. No part
    /// of it reads what another one writes, so where the way to the database is long it is one statement.
    async fn write_placed(
        &mut self,
        placed: &PlacedRows<'_>,
        moves: &[(i64, i64)],
        at: UnixMicros,
    ) -> sqlx::Result<u64>;

    /// Returns how many were placed and are cancelled now.
    async fn cancel_orders(&mut self, orders: &[Uuid], at: UnixMicros) -> sqlx::Result<u64>;

    /// Takes (SKU row, units newly sold); returns how many rows had the units.
    async fn move_stock(&mut self, moves: &[(i64, i64)]) -> sqlx::Result<u64>;
}

impl Statements for Transaction {
    handed_over! {
        fn units(orders: &[Uuid]) -> Vec<UnitsRow>;
        fn wait_for(awaited: &Awaited) -> ();
        fn lock_stock(named: &[(&str, &str)], sku_ids: &[i64], locking: Locking) -> Option<Vec<i64>>;
        fn lock_orders(orders: &[Uuid], locking: Locking) -> Option<Vec<Uuid>>;
        fn offers(brands: &[&str], named: &[(&str, &str)], sku_ids: &[i64]) -> Vec<OfferRow>;
        fn settled(keys: &[&[u8]]) -> Vec<SettledRow>;
        fn standing(orders: &[Uuid]) -> Vec<StandingRow>;
        fn insert_outcomes(rows: &[OutcomeRow<'_>], at: UnixMicros) -> Vec<PositionRow>;
        fn write_placed(placed: &PlacedRows<'_>, moves: &[(i64, i64)], at: UnixMicros) -> u64;
        fn cancel_orders(orders: &[Uuid], at: UnixMicros) -> u64;
        fn move_stock(moves: &[(i64, i64)]) -> u64;
    }
}
