//! What an import of stock asks of a database: the statements of its transactions, and their rows.

use std::collections::HashSet;

use crate::database::{HeldItem, Transaction, handed_over, row};
use crate::orders::store::BrandRow;

row! {
    /// What a SKU costs.
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

    /// Before an import's part: waits for what somebody else holds, with no stock in its hands, and takes it.
    async fn wait_for_sale(&mut self, awaited: Option<&HeldItem>) -> sqlx::Result<()>;

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
