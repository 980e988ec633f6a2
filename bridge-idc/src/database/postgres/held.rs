//! What somebody else holds and an import needs: left out where it is met, waited for by itself, and by whom it is held.

use std::collections::HashSet;

use serde_json::Value;
use sqlx::{PgConnection, PgPool};

use super::{AWAITED_FOR, LOCK_TIMEOUT};
use crate::database::held::{HeldItem, HeldRows, Key, Touched};
use crate::database::row::row;

/// Waits for a SKU's stock, by brand and SKU, and takes it.
pub(crate) const WAIT_FOR_STOCK: &str = include_str!("wait_for_stock.sql");

/// Waits for what somebody else holds, for as long as a turn takes, and takes it. No stock is held meanwhile, so no order waits
/// behind it. From then on in this transaction nothing is waited for that could be left out, and the rest not for long.
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

/// For what follows in its transaction.
pub(crate) async fn set_lock_timeout(connection: &mut PgConnection, time: &'static str) -> sqlx::Result<()> {
    let set = sqlx::query("SELECT set_config('lock_timeout', $1, true)").bind(time);
    set.execute(connection).await.map(drop)
}

/// Locks what is to be changed, but for what somebody else holds.
pub(crate) async fn lock(connection: &mut PgConnection, touched: &Touched) -> sqlx::Result<HeldRows> {
    let Touched { products, skus, stock } = touched;
    let products = held(connection, include_str!("held_products.sql"), products).await?;
    let mut held_skus = held(connection, include_str!("held_skus.sql"), skus).await?;
    // Last, since orders wait for it.
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

/// The table that somebody has locked as a whole, if that is what an import met.
pub(crate) async fn locked_table(pool: &PgPool) -> Option<HeldItem> {
    locked(pool, None).await.map(|lock| HeldItem::Table(lock.table))
}

row! {
    /// A table that somebody has locked as a whole, and who.
    struct LockRow {
        table: String,
        process: i32,
        user: String,
        application: String,
    }
}

row! {
    /// Who holds a row.
    struct HolderRow {
        process: i32,
        user: String,
        application: String,
    }
}

async fn locked(pool: &PgPool, table: Option<&str>) -> Option<LockRow> {
    let ask = sqlx::query_as(include_str!("who_holds_table.sql")).bind(table);
    // It is said beside what is known for certain: an error says no more than nothing.
    ask.fetch_optional(pool).await.ok()?
}

/// Who holds it, as far as the database tells.
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
    // It is said beside what is known for certain: an error says no more than nothing.
    let found: Option<HolderRow> = ask.fetch_optional(pool).await.ok()?;
    found.map(named)
}

fn named(HolderRow { process, user, application }: HolderRow) -> String {
    let application = if application.is_empty() { "of no name".to_owned() } else { application };
    format!("process {process} of PostgreSQL, user {user}, program {application}")
}
