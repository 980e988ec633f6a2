//! Rows and tables that another session holds and an import needs: skips them, waits for them, and
//! names their holder.

use std::collections::HashSet;

use serde_json::Value;
use sqlx::{PgConnection, PgPool};

use super::{AWAITED_FOR, LOCK_TIMEOUT};
use crate::database::held::{HeldItem, HeldRows, Key, Touched};
use crate::database::row::row;

/// Waits for the stock of a SKU, by brand and SKU, and locks it.
pub(crate) const WAIT_FOR_STOCK: &str = include_str!("wait_for_stock.sql");

/// Waits for an item that another session holds, up to `AWAITED_FOR`, and locks it. It holds no
/// stock meanwhile, so no order waits behind it. Afterwards the transaction waits only for locks
/// that it cannot skip, and only for `LOCK_TIMEOUT`.
pub(crate) async fn wait_for(connection: &mut PgConnection, awaited: Option<&HeldItem>) -> sqlx::Result<()> {
    set_lock_timeout(connection, AWAITED_FOR).await?;
    match awaited {
        Some(HeldItem::Sku { brand, sku }) => {
            for sql in [include_str!("wait_for_sku.sql"), WAIT_FOR_STOCK] {
                sqlx::query(sql).bind(brand).bind(sku).execute(&mut *connection).await?;
            }
        }
        Some(HeldItem::Product { brand, product }) => {
            let wait = sqlx::query(include_str!("wait_for_product.sql")).bind(brand).bind(product);
            wait.execute(&mut *connection).await?;
        }
        Some(HeldItem::Table(_) | HeldItem::Unnamed | HeldItem::File) | None => {}
    }
    set_lock_timeout(connection, LOCK_TIMEOUT).await
}

/// Sets the lock time-out for the rest of the transaction.
pub(crate) async fn set_lock_timeout(connection: &mut PgConnection, time: &'static str) -> sqlx::Result<()> {
    let set = sqlx::query("SELECT set_config('lock_timeout', $1, true)").bind(time);
    set.execute(connection).await.map(drop)
}

/// Locks the rows to be changed. Returns those that another session holds.
pub(crate) async fn lock(connection: &mut PgConnection, touched: &Touched) -> sqlx::Result<HeldRows> {
    let Touched { products, skus, stock } = touched;
    let products = held(connection, include_str!("held_products.sql"), products).await?;
    let mut held_skus = held(connection, include_str!("held_skus.sql"), skus).await?;
    // Stock comes last, because orders wait for it.
    held_skus.extend(held(connection, include_str!("held_stock.sql"), stock).await?);
    Ok(HeldRows { products, skus: held_skus })
}

async fn held(connection: &mut PgConnection, sql: &'static str, keys: &[Key]) -> sqlx::Result<HashSet<Key>> {
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let keys = keys.iter().map(|(brand, code)| Value::from(vec![brand.as_str(), code.as_str()]));
    let keys = Value::from_iter(keys).to_string();
    Ok(HashSet::from_iter(sqlx::query_as(sql).bind(keys).fetch_all(connection).await?))
}

/// Returns the table that another session has locked, if an import needs it.
pub(crate) async fn locked_table(pool: &PgPool) -> Option<HeldItem> {
    locked(pool, None).await.map(|lock| HeldItem::Table(lock.table))
}

row! {
    /// A locked table and its holder.
    struct LockRow {
        table: String,
        process: i32,
        user: String,
        application: String,
    }
}

row! {
    /// The holder of a row or a table.
    pub(in crate::database) struct HolderRow {
        pub(in crate::database) process: i32,
        pub(in crate::database) user: String,
        pub(in crate::database) application: String,
    }
}

async fn locked(pool: &PgPool, table: Option<&str>) -> Option<LockRow> {
    let ask = sqlx::query_as(include_str!("who_holds_table.sql")).bind(table);
    // The name only adds to a message, so an error counts as no name.
    ask.fetch_optional(pool).await.ok()?
}

/// Returns the holder of an item, if the database can name it.
pub(crate) async fn holder(pool: &PgPool, held: &HeldItem) -> Option<String> {
    let (sql, brand, code) = match held {
        HeldItem::Sku { brand, sku } => (include_str!("who_holds_sku.sql"), brand, sku),
        HeldItem::Product { brand, product } => (include_str!("who_holds_product.sql"), brand, product),
        HeldItem::Table(table) => {
            let LockRow { process, user, application, .. } = locked(pool, Some(table)).await?;
            return Some(named(HolderRow { process, user, application }));
        }
        HeldItem::Unnamed | HeldItem::File => return None,
    };
    let ask = sqlx::query_as(sql).bind(brand).bind(code);
    // The name only adds to a message, so an error counts as no name.
    let found: Option<HolderRow> = ask.fetch_optional(pool).await.ok()?;
    found.map(named)
}

/// Returns the name of a holder for a message.
pub(in crate::database) fn named(HolderRow { process, user, application }: HolderRow) -> String {
    let application = if application.is_empty() { "of no name".to_owned() } else { application };
    format!("process {process} of PostgreSQL, user {user}, program {application}")
}
