//! The statements of a stock import's transactions, and their rows.

use std::collections::HashSet;

use crate::database::{HeldItem, Transaction, handed_over, row};
use crate::orders::store::BrandRow;

row! {
    /// The price of a SKU.
    pub(super) struct PriceRow {
        pub(super) brand: String,
        pub(super) sku: String,
        pub(super) price: i64,
    }
}

/// A file's row for `skus` and `stock`.
pub(super) struct ForSaleRow<'a> {
    pub(super) brand: &'a str,
    pub(super) sku: &'a str,
    pub(super) price: i64,
    pub(super) quantity: i64,
}

/// The statements of an import's transaction.
pub(super) trait SaleStatements {
    async fn brands(&mut self, brands: &[&str]) -> sqlx::Result<Vec<BrandRow>>;

    /// Waits for a held item and locks it. Runs before the import locks any stock.
    async fn wait_for_sale(&mut self, awaited: Option<&HeldItem>) -> sqlx::Result<()>;

    /// Locks the rows of these SKUs that will change. Returns the SKUs that another session holds,
    /// by brand and SKU. The statement does not wait for them.
    async fn lock_for_sale(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<HashSet<(String, String)>>;

    /// Adds brands with their currencies. Returns the number of new ones.
    async fn add_brands(&mut self, brands: &[(&str, &str)]) -> sqlx::Result<u64>;

    /// Adds SKUs. Returns the number of new ones; existing ones keep their price.
    async fn add_skus(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<u64>;

    async fn set_prices(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<()>;

    /// Sets the available units.
    async fn set_stock(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<()>;
}

impl SaleStatements for Transaction {
    handed_over! {
        fn brands(brands: &[&str]) -> Vec<BrandRow>;
        fn wait_for_sale(awaited: Option<&HeldItem>) -> ();
        fn lock_for_sale(rows: &[ForSaleRow<'_>]) -> HashSet<(String, String)>;
        fn add_brands(brands: &[(&str, &str)]) -> u64;
        fn add_skus(rows: &[ForSaleRow<'_>]) -> u64;
        fn set_prices(rows: &[ForSaleRow<'_>]) -> ();
        fn set_stock(rows: &[ForSaleRow<'_>]) -> ();
    }
}
