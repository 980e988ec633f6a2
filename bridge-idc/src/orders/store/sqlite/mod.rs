//! SQLite, the default database, which is embedded: passes rows as JSON arrays to the statements
//! beside this file.
//!
//! The rows of a table go into one text, `[[..], [..]]`, and `json_each` takes them apart. So each
//! table needs one prepared statement, whatever the size of the batch. Bytes are hexadecimal digits
//! in the text.

use bridge_protocol::domain::UnixMicros;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::look_up::{self, Question, Questions};
use super::rows::{
    LineRow, LockedRow, OfferRow, OrderRow, OutcomeRow, PersonalRow, PlacedRows, PositionRow, PurchaseRow,
    PurchasedRow, SettledRow, StandingRow, UnitsRow,
};
use super::statements::{Locking, Statements};
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

    async fn offers(
        &mut self,
        brands: &[&str],
        named: &[(&str, &str)],
        sku_ids: &[i64],
    ) -> sqlx::Result<Vec<OfferRow>> {
        sqlx::query_as(include_str!("offers.sql"))
            .bind(json(brands)?)
            .bind(json(named)?)
            .bind(json(sku_ids)?)
            .fetch_all(self)
            .await
    }

    async fn purchases(&mut self, of: &[(i64, CustomerTag)]) -> sqlx::Result<Vec<PurchasedRow>> {
        let of = table(of, |(launch_id, customer)| (*launch_id, hex(customer.as_bytes())))?;
        sqlx::query_as(include_str!("purchases.sql")).bind(of).fetch_all(self).await
    }

    async fn settled(&mut self, keys: &[&[u8]]) -> sqlx::Result<Vec<SettledRow>> {
        let keys = table(keys, |key| hex(key))?;
        sqlx::query_as(include_str!("settled.sql")).bind(keys).fetch_all(self).await
    }

    async fn standing(&mut self, orders: &[Uuid]) -> sqlx::Result<Vec<StandingRow>> {
        sqlx::query_as(include_str!("standing.sql")).bind(ids(orders)?).fetch_all(self).await
    }

    async fn insert_outcomes(
        &mut self,
        rows: &[OutcomeRow<'_>],
        at: UnixMicros,
    ) -> sqlx::Result<Vec<PositionRow>> {
        let rows = table(rows, |row| {
            let (price, launch) = (row.outcome.price(), row.launch_columns());
            (
                hex(row.key),
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
        insert.fetch_all(self).await
    }

    async fn write_placed(
        &mut self,
        placed: &PlacedRows<'_>,
        moves: &[(i64, i64)],
        at: UnixMicros,
    ) -> sqlx::Result<u64> {
        insert_orders(self, &placed.orders, at).await?;
        insert_lines(self, &placed.lines).await?;
        insert_personal(self, &placed.personal).await?;
        if moves.is_empty() { Ok(0) } else { self.move_stock(moves).await }
    }

    async fn cancel_orders(&mut self, orders: &[Uuid], at: UnixMicros) -> sqlx::Result<u64> {
        let update = sqlx::query(include_str!("cancel_orders.sql")).bind(ids(orders)?).bind(at.get());
        Ok(update.execute(self).await?.rows_affected())
    }

    async fn move_stock(&mut self, moves: &[(i64, i64)]) -> sqlx::Result<u64> {
        let update = sqlx::query(include_str!("move_stock.sql")).bind(json(moves)?);
        Ok(update.execute(self).await?.rows_affected())
    }

    async fn insert_purchases(&mut self, rows: &[PurchaseRow<'_>]) -> sqlx::Result<()> {
        let rows = table(rows, |row| {
            let (units, customer) = (row.units, hex(row.units.customer.as_bytes()));
            (hex(row.order.as_bytes()), units.sku_id, units.launch_id, customer, units.units)
        })?;
        sqlx::query(include_str!("insert_purchases.sql")).bind(rows).execute(self).await.map(drop)
    }

    async fn give_back(&mut self, orders: &[Uuid], at: UnixMicros) -> sqlx::Result<()> {
        let update = sqlx::query(include_str!("give_back.sql")).bind(ids(orders)?).bind(at.get());
        update.execute(self).await.map(drop)
    }

    async fn move_launches(&mut self, moves: &[(i64, i64)]) -> sqlx::Result<u64> {
        let update = sqlx::query(include_str!("move_launches.sql")).bind(json(moves)?);
        Ok(update.execute(self).await?.rows_affected())
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

async fn insert_orders(
    connection: &mut SqliteConnection,
    rows: &[OrderRow<'_>],
    at: UnixMicros,
) -> sqlx::Result<()> {
    let rows = table(rows, |row| {
        (
            hex(row.order.as_bytes()),
            row.brand,
            row.position,
            row.terms.customer_reference(),
            row.terms.currency().to_string(),
            row.terms.shipping_fee().amount(),
            row.terms.total().amount(),
        )
    })?;
    let insert = sqlx::query(include_str!("insert_orders.sql")).bind(rows).bind(at.get());
    insert.execute(connection).await.map(drop)
}

async fn insert_lines(connection: &mut SqliteConnection, rows: &[LineRow]) -> sqlx::Result<()> {
    let rows = table(rows, |row| {
        (hex(row.order.as_bytes()), row.line_no, row.sku_id, row.quantity, row.unit_price)
    })?;
    sqlx::query(include_str!("insert_lines.sql")).bind(rows).execute(connection).await.map(drop)
}

async fn insert_personal(connection: &mut SqliteConnection, rows: &[PersonalRow<'_>]) -> sqlx::Result<()> {
    let rows = table(rows, |row| {
        let fields = row.personal.fields.each_ref().map(|field| field.as_deref().map(hex));
        let [f1, f2, f3, f4, f5, f6, f7, f8, f9] = fields;
        let (version, wrapped) = (row.personal.key_version, hex(&row.personal.wrapped_key));
        (hex(row.order.as_bytes()), version, wrapped, f1, f2, f3, f4, f5, f6, f7, f8, f9)
    })?;
    sqlx::query(include_str!("insert_personal.sql")).bind(rows).execute(connection).await.map(drop)
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
