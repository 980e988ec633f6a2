//! SQLite: passes rows as JSON arrays to the statements beside this file.

use std::collections::HashSet;

use sqlx::SqliteConnection;

use super::statements::{ForSaleRow, SaleStatements};
use crate::database::HeldItem;
use crate::database::sqlite::tables::{json, table};
use crate::orders::store::BrandRow;

impl SaleStatements for SqliteConnection {
    async fn brands(&mut self, brands: &[&str]) -> sqlx::Result<Vec<BrandRow>> {
        sqlx::query_as(include_str!("brands.sql")).bind(json(brands)?).fetch_all(self).await
    }

    async fn add_brands(&mut self, brands: &[(&str, &str)]) -> sqlx::Result<u64> {
        let insert = sqlx::query(include_str!("add_brands.sql")).bind(json(brands)?);
        Ok(insert.execute(self).await?.rows_affected())
    }

    async fn add_skus(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<u64> {
        let rows = table(rows, |row| (row.brand, row.sku, row.price))?;
        let insert = sqlx::query(include_str!("add_skus.sql")).bind(rows);
        Ok(insert.execute(self).await?.rows_affected())
    }

    async fn set_prices(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<()> {
        let rows = table(rows, |row| (row.brand, row.sku, row.price))?;
        sqlx::query(include_str!("set_prices.sql")).bind(rows).execute(self).await.map(drop)
    }

    async fn set_stock(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<()> {
        let rows = table(rows, |row| (row.brand, row.sku, row.quantity))?;
        sqlx::query(include_str!("set_stock.sql")).bind(rows).execute(self).await.map(drop)
    }

    /// Does nothing: a write transaction on SQLite locks the whole file.
    async fn wait_for_sale(&mut self, _: Option<&HeldItem>) -> sqlx::Result<()> {
        Ok(())
    }

    async fn lock_for_sale(&mut self, _: &[ForSaleRow<'_>]) -> sqlx::Result<HashSet<(String, String)>> {
        Ok(HashSet::new())
    }
}
