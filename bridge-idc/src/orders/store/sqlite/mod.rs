//! SQLite, the default database, which is embedded: passes rows as JSON arrays to the statements
//! beside this file.
//!
//! The rows of a table go into one text, `[[..], [..]]`, and `json_each` takes them apart. So each
//! table needs one prepared statement, whatever the size of the batch. Bytes are hexadecimal digits
//! in the text.

use std::collections::BTreeSet;

use bridge_protocol::domain::UnixMicros;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteQueryResult;
use uuid::Uuid;

use super::look_up::{self, Question, Questions};
use super::rows::{
    FactRows, LineRow, LockedRow, NewRows, OfferRow, OutcomeRow, PersonalRow, PurchaseRow, PurchasedRow,
    UnitsRow, WrittenRows,
};
use super::statements::{FactKeys, Locking, Statements};
use crate::database::sqlite::tables::{json, table};
use crate::orders::planner::{Awaited, CustomerTag};

impl Statements for SqliteConnection {
    async fn units(&mut self, orders: &[Uuid]) -> sqlx::Result<Vec<UnitsRow>> {
        sqlx::query_as(include_str!("units.sql")).bind(ids(orders)?).fetch_all(self).await
    }

    /// SQLite has one writer, so a transaction that has begun holds all rows.
    async fn wait_for(&mut self, _: &Awaited) -> sqlx::Result<()> {
        Ok(())
    }

    async fn lock_stock(
        &mut self,
        _: &[(&str, &str)],
        _: &[i64],
        _: &[i64],
        _: Locking,
    ) -> sqlx::Result<Option<Vec<LockedRow>>> {
        Ok(None)
    }

    async fn lock_orders(&mut self, _: &[Uuid], _: Locking) -> sqlx::Result<Option<Vec<Uuid>>> {
        Ok(None)
    }

    async fn facts(&mut self, keys: &FactKeys<'_>) -> sqlx::Result<FactRows> {
        let FactKeys { brands, named, sku_ids, keys, cancels, customers, .. } = keys;
        let offers: Vec<OfferRow> = sqlx::query_as(include_str!("offers.sql"))
            .bind(json(brands)?)
            .bind(json(named)?)
            .bind(json(sku_ids)?)
            .fetch_all(&mut *self)
            .await?;
        let keys = table(keys, |key| hex(key))?;
        let settled = sqlx::query_as(include_str!("settled.sql")).bind(keys).fetch_all(&mut *self).await?;
        let standing = match cancels.as_slice() {
            [] => Vec::new(),
            cancels => {
                sqlx::query_as(include_str!("standing.sql")).bind(ids(cancels)?).fetch_all(&mut *self).await?
            }
        };
        let purchases = purchases(self, &offers, customers).await?;
        Ok(FactRows { offers, settled, standing, purchases })
    }

    async fn write(&mut self, rows: &NewRows<'_>, at: UnixMicros) -> sqlx::Result<WrittenRows> {
        let positions = insert_outcomes(self, &rows.outcomes, at).await?;
        let mut written = WrittenRows { positions, ..WrittenRows::default() };
        if rows.are_outcomes_alone() || written.positions.len() < rows.outcomes.len() {
            return Ok(written);
        }
        if !rows.orders.is_empty() {
            written.inserted += insert_orders(self, rows, &written.positions, at).await?;
            written.inserted += insert_lines(self, &rows.lines).await?;
            written.inserted += insert_personal(self, &rows.personal).await?;
        }
        if !rows.purchases.is_empty() {
            written.inserted += insert_purchases(self, &rows.purchases).await?;
        }
        written.stock = move_units(self, include_str!("move_stock.sql"), &rows.stock).await?;
        written.launches = move_units(self, include_str!("move_launches.sql"), &rows.launches).await?;
        Ok(written)
    }

    async fn cancel_orders(&mut self, orders: &[Uuid], at: UnixMicros) -> sqlx::Result<u64> {
        let update = sqlx::query(include_str!("cancel_orders.sql")).bind(ids(orders)?).bind(at.get());
        Ok(update.execute(self).await?.rows_affected())
    }

    async fn give_back(&mut self, orders: &[Uuid], at: UnixMicros) -> sqlx::Result<()> {
        let update = sqlx::query(include_str!("give_back.sql")).bind(ids(orders)?).bind(at.get());
        update.execute(self).await.map(drop)
    }
}

impl Questions for SqliteConnection {
    async fn orders(&mut self, questions: &[Question]) -> sqlx::Result<Vec<look_up::OrderRow>> {
        let questions = table(questions, |question| {
            let key = question.key.as_ref().map(|key| hex(key.as_bytes()));
            (question.brand.as_str(), hex(question.order.as_uuid().as_bytes()), key)
        })?;
        sqlx::query_as(include_str!("look_up.sql")).bind(questions).fetch_all(self).await
    }

    async fn lines(&mut self, orders: &[Uuid]) -> sqlx::Result<Vec<look_up::LineRow>> {
        sqlx::query_as(include_str!("lines.sql")).bind(ids(orders)?).fetch_all(self).await
    }
}

/// Returns what customers have from the launches of these offers.
async fn purchases(
    connection: &mut SqliteConnection,
    offers: &[OfferRow],
    customers: &[(&str, CustomerTag)],
) -> sqlx::Result<Vec<PurchasedRow>> {
    let launches = offers.iter().filter_map(|row| Some((row.brand.as_str(), row.launch_id?)));
    let launches: BTreeSet<(&str, i64)> = launches.collect();
    if launches.is_empty() {
        return Ok(Vec::new());
    }
    let of = launches.iter().flat_map(|(brand, launch_id)| {
        let own = customers.iter().filter(move |(of, _)| of == brand);
        own.map(move |(_, customer)| (*launch_id, hex(customer.as_bytes())))
    });
    let of = json(&Vec::from_iter(of))?;
    sqlx::query_as(include_str!("purchases.sql")).bind(of).fetch_all(connection).await
}

/// Inserts outcomes. Returns the positions of those whose key was new, in the order of the keys.
async fn insert_outcomes(
    connection: &mut SqliteConnection,
    rows: &[OutcomeRow<'_>],
    at: UnixMicros,
) -> sqlx::Result<Vec<i64>> {
    let rows = table(rows, |row| {
        let (price, launch) = (row.outcome.price(), row.launch_columns());
        (
            hex(row.key.as_bytes()),
            row.brand,
            row.operation,
            hex(row.order.as_bytes()),
            hex(row.fingerprint),
            row.outcome.code(),
            row.outcome.sku().map(|sku| sku.as_str()),
            price.map(|price| price.amount()),
            price.map(|price| price.currency().to_string()),
            launch,
        )
    })?;
    let insert = sqlx::query_as(include_str!("insert_outcomes.sql")).bind(rows).bind(at.get());
    // SQLite returns the rows in any order.
    let mut inserted: Vec<(Vec<u8>, i64)> = insert.fetch_all(connection).await?;
    inserted.sort_unstable();
    Ok(inserted.into_iter().map(|(_, position)| position).collect())
}

async fn insert_orders(
    connection: &mut SqliteConnection,
    rows: &NewRows<'_>,
    positions: &[i64],
    at: UnixMicros,
) -> sqlx::Result<usize> {
    let rows = table(&rows.orders, |row| {
        (
            hex(row.order.as_bytes()),
            row.brand,
            positions.get(row.outcome),
            row.terms.customer_reference(),
            row.terms.currency().to_string(),
            row.terms.shipping_fee().amount(),
            row.terms.total().amount(),
        )
    })?;
    let insert = sqlx::query(include_str!("insert_orders.sql")).bind(rows).bind(at.get());
    count(insert.execute(connection).await)
}

async fn insert_purchases(
    connection: &mut SqliteConnection,
    rows: &[PurchaseRow<'_>],
) -> sqlx::Result<usize> {
    let rows = table(rows, |row| {
        let (units, customer) = (row.units, hex(row.units.customer.as_bytes()));
        (hex(row.order.as_bytes()), units.sku_id, units.launch_id, customer, units.units)
    })?;
    count(sqlx::query(include_str!("insert_purchases.sql")).bind(rows).execute(connection).await)
}

/// Moves units of stock or of launches. Returns the number of rows that had the units.
async fn move_units(
    connection: &mut SqliteConnection,
    sql: &'static str,
    moves: &[(i64, i64)],
) -> sqlx::Result<usize> {
    if moves.is_empty() {
        return Ok(0);
    }
    count(sqlx::query(sql).bind(json(moves)?).execute(connection).await)
}

/// Returns the number of rows that a statement wrote.
fn count(done: sqlx::Result<SqliteQueryResult>) -> sqlx::Result<usize> {
    Ok(usize::try_from(done?.rows_affected()).unwrap_or_default())
}

async fn insert_lines(connection: &mut SqliteConnection, rows: &[LineRow]) -> sqlx::Result<usize> {
    let rows = table(rows, |row| {
        (hex(row.order.as_bytes()), row.line_no, row.sku_id, row.quantity, row.unit_price)
    })?;
    count(sqlx::query(include_str!("insert_lines.sql")).bind(rows).execute(connection).await)
}

async fn insert_personal(connection: &mut SqliteConnection, rows: &[PersonalRow<'_>]) -> sqlx::Result<usize> {
    let rows = table(rows, |row| {
        let fields = row.personal.fields.each_ref().map(|field| field.as_deref().map(hex));
        let [f1, f2, f3, f4, f5, f6, f7, f8, f9] = fields;
        let (version, wrapped) = (row.personal.key_version, hex(&row.personal.wrapped_key));
        (hex(row.order.as_bytes()), version, wrapped, f1, f2, f3, f4, f5, f6, f7, f8, f9)
    })?;
    count(sqlx::query(include_str!("insert_personal.sql")).bind(rows).execute(connection).await)
}

fn ids(orders: &[Uuid]) -> sqlx::Result<String> {
    table(orders, |order| hex(order.as_bytes()))
}

/// Returns hexadecimal digits for SQLite's `unhex()`.
fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}
