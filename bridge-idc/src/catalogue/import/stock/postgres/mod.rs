//! PostgreSQL: binds arrays to the statements beside this file and decodes their rows.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;

use super::statements::{ForSaleRow, PriceRow, SaleStatements};
use crate::database::postgres::arrays::column;
use crate::database::postgres::held;
use crate::database::{HeldItem, Key, Touched};
use crate::orders::store::BrandRow;

impl SaleStatements for PgConnection {
    async fn brands(&mut self, brands: &[&str]) -> sqlx::Result<Vec<BrandRow>> {
        sqlx::query_as(include_str!("brands.sql")).bind(brands).fetch_all(self).await
    }

    async fn add_brands(&mut self, brands: &[(&str, &str)]) -> sqlx::Result<u64> {
        let insert = sqlx::query(include_str!("add_brands.sql"))
            .bind(column(brands, |(brand, _)| *brand))
            .bind(column(brands, |(_, currency)| *currency));
        Ok(insert.execute(self).await?.rows_affected())
    }

    async fn add_skus(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<u64> {
        let insert = sqlx::query(include_str!("add_skus.sql"))
            .bind(column(rows, |row| row.brand))
            .bind(column(rows, |row| row.sku))
            .bind(column(rows, |row| row.price));
        Ok(insert.execute(self).await?.rows_affected())
    }

    async fn set_prices(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<()> {
        let update = sqlx::query(include_str!("set_prices.sql"))
            .bind(column(rows, |row| row.brand))
            .bind(column(rows, |row| row.sku))
            .bind(column(rows, |row| row.price));
        update.execute(self).await.map(drop)
    }

    async fn set_stock(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<()> {
        let upsert = sqlx::query(include_str!("set_stock.sql"))
            .bind(column(rows, |row| row.brand))
            .bind(column(rows, |row| row.sku))
            .bind(column(rows, |row| row.quantity));
        upsert.execute(self).await.map(drop)
    }

    async fn wait_for_sale(&mut self, awaited: Option<&HeldItem>) -> sqlx::Result<()> {
        held::wait_for(self, awaited).await
    }

    async fn lock_for_sale(&mut self, rows: &[ForSaleRow<'_>]) -> sqlx::Result<HashSet<Key>> {
        let keys = |rows: &[ForSaleRow<'_>]| -> Vec<Key> {
            rows.iter().map(|row| (row.brand.to_owned(), row.sku.to_owned())).collect()
        };
        let stock = keys(rows);
        let named = stock.iter().map(|(brand, sku)| serde_json::json!([brand, sku]));
        let named = serde_json::Value::from_iter(named).to_string();
        let prices: Vec<PriceRow> =
            sqlx::query_as(include_str!("prices.sql")).bind(named).fetch_all(&mut *self).await?;
        let prices: HashMap<Key, i64> =
            prices.into_iter().map(|PriceRow { brand, sku, price }| ((brand, sku), price)).collect();
        let changes = rows
            .iter()
            .zip(&stock)
            .filter(|(row, key)| prices.get(*key).is_some_and(|price| *price != row.price));
        let skus = changes.map(|(_, key)| key.clone()).collect();
        let touched = Touched { products: Vec::new(), skus, stock };
        Ok(held::lock(self, &touched).await?.skus)
    }
}
