//! PostgreSQL: binds arrays to the statements beside this file, and decodes their rows.

use bridge_protocol::domain::{Currency, UnixMicros};
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::QueryAs;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::look_up::{self, Question, Questions};
use super::rows::{
    FactRows, LockedRow, NewRows, OfferRow, OutcomeRow, PurchasedRow, SettledRow, StandingRow, UnitsRow,
    WrittenRows,
};
use super::statements::{FactKeys, Locking, Statements};
use crate::database::postgres::arrays::column;
use crate::database::postgres::held::{WAIT_FOR_STOCK, set_lock_timeout};
use crate::database::postgres::{AWAITED_FOR, LOCK_TIMEOUT};
use crate::database::row;
use crate::orders::planner::Awaited;

impl Statements for PgConnection {
    async fn units(&mut self, orders: &[Uuid]) -> sqlx::Result<Vec<UnitsRow>> {
        sqlx::query_as(include_str!("units.sql")).bind(orders).fetch_all(self).await
    }

    async fn wait_for(&mut self, awaited: &Awaited) -> sqlx::Result<()> {
        match awaited {
            Awaited::Stock { brand, sku } => {
                set_lock_timeout(self, AWAITED_FOR).await?;
                let wait = sqlx::query(WAIT_FOR_STOCK);
                wait.bind(brand.as_str()).bind(sku.as_str()).execute(&mut *self).await?;
                set_lock_timeout(self, LOCK_TIMEOUT).await
            }
            Awaited::Launch { launch_id, .. } => {
                set_lock_timeout(self, AWAITED_FOR).await?;
                let wait = sqlx::query(include_str!("wait_for_launch.sql")).bind(launch_id);
                wait.execute(&mut *self).await?;
                set_lock_timeout(self, LOCK_TIMEOUT).await
            }
            Awaited::Order(order) => {
                set_lock_timeout(self, AWAITED_FOR).await?;
                self.lock_orders(&[order.as_uuid()], Locking::Waits).await?;
                set_lock_timeout(self, LOCK_TIMEOUT).await
            }
            // The held row is unknown, so there is nothing to wait for. The batch meets it again if
            // it is still held.
            Awaited::Brand(_) => Ok(()),
        }
    }

    async fn lock_stock(
        &mut self,
        named: &[(&str, &str)],
        sku_ids: &[i64],
        launches: &[i64],
        locking: Locking,
    ) -> sqlx::Result<Option<Vec<LockedRow>>> {
        let sql = match locking {
            Locking::Skips => include_str!("lock_stock.sql"),
            Locking::Waits => include_str!("lock_stock_waiting.sql"),
        };
        let lock = sqlx::query_as(sql)
            .bind(column(named, |(brand, _)| *brand))
            .bind(column(named, |(_, sku)| *sku))
            .bind(sku_ids)
            .bind(launches);
        lock.fetch_all(self).await.map(Some)
    }

    async fn lock_orders(&mut self, orders: &[Uuid], locking: Locking) -> sqlx::Result<Option<Vec<Uuid>>> {
        let sql = match locking {
            Locking::Skips => include_str!("lock_orders.sql"),
            Locking::Waits => include_str!("lock_orders_waiting.sql"),
        };
        sqlx::query_scalar(sql).bind(orders).fetch_all(self).await.map(Some)
    }

    async fn facts(&mut self, keys: &FactKeys<'_>) -> sqlx::Result<FactRows> {
        let found: Vec<FactRow> = sqlx::query_as(include_str!("facts.sql"))
            .bind(&keys.brands)
            .bind(column(&keys.named, |(brand, _)| *brand))
            .bind(column(&keys.named, |(_, sku)| *sku))
            .bind(&keys.sku_ids)
            .bind(&keys.keys)
            .bind(&keys.cancels)
            .bind(column(&keys.customers, |(brand, _)| *brand))
            .bind(column(&keys.customers, |(_, customer)| customer.as_bytes().as_slice()))
            .bind(&keys.launches)
            .fetch_all(self)
            .await?;
        let mut rows = FactRows { offers: Vec::with_capacity(found.len()), ..FactRows::default() };
        found.into_iter().try_for_each(|row| row.add_to(&mut rows))?;
        Ok(rows)
    }

    async fn write(&mut self, rows: &NewRows<'_>, at: UnixMicros) -> sqlx::Result<WrittenRows> {
        let NewRows { outcomes, orders, lines, personal, stock, purchases, launches } = rows;
        if rows.are_outcomes_alone() {
            let insert = of_outcomes(include_str!("insert_outcomes.sql"), outcomes, at);
            let (positions,) = insert.fetch_one(self).await?;
            return Ok(WrittenRows { positions, ..WrittenRows::default() });
        }
        let currencies = column(orders, |row| row.terms.currency());
        let mut write = of_outcomes(include_str!("write.sql"), outcomes, at)
            .bind(column(orders, |row| row.order))
            .bind(column(orders, |row| row.brand))
            // PostgreSQL counts the items of an array from 1.
            .bind(column(orders, |row| i32::try_from(row.outcome + 1).unwrap_or(i32::MAX)))
            .bind(column(orders, |row| row.terms.customer_reference()))
            .bind(column(&currencies, Currency::as_str))
            .bind(column(orders, |row| row.terms.shipping_fee().amount()))
            .bind(column(orders, |row| row.terms.total().amount()))
            .bind(column(lines, |row| row.order))
            .bind(column(lines, |row| row.line_no))
            .bind(column(lines, |row| row.sku_id))
            .bind(column(lines, |row| row.quantity))
            .bind(column(lines, |row| row.unit_price))
            .bind(column(personal, |row| row.order))
            .bind(column(personal, |row| row.personal.key_version))
            .bind(column(personal, |row| row.personal.wrapped_key.as_slice()));
        for field in 0..PERSONAL_FIELDS {
            write = write.bind(column(personal, |row| row.personal.fields[field].as_deref()));
        }
        let write = write
            .bind(column(stock, |(sku_id, _)| *sku_id))
            .bind(column(stock, |(_, units)| *units))
            .bind(column(purchases, |row| row.order))
            .bind(column(purchases, |row| row.units.sku_id))
            .bind(column(purchases, |row| row.units.launch_id))
            .bind(column(purchases, |row| row.units.customer.as_bytes().as_slice()))
            .bind(column(purchases, |row| row.units.units))
            .bind(column(launches, |(launch_id, _)| *launch_id))
            .bind(column(launches, |(_, units)| *units));
        let (positions, inserted, stock, launches): (_, i64, i64, i64) = write.fetch_one(self).await?;
        let count = |rows: i64| usize::try_from(rows).unwrap_or_default();
        let (inserted, stock, launches) = (count(inserted), count(stock), count(launches));
        Ok(WrittenRows { positions, inserted, stock, launches })
    }

    async fn cancel_orders(&mut self, orders: &[Uuid], at: UnixMicros) -> sqlx::Result<u64> {
        let update = sqlx::query(include_str!("cancel_orders.sql")).bind(orders).bind(at.get());
        Ok(update.execute(self).await?.rows_affected())
    }

    async fn give_back(&mut self, orders: &[Uuid], at: UnixMicros) -> sqlx::Result<()> {
        let update = sqlx::query(include_str!("give_back.sql")).bind(orders).bind(at.get());
        update.execute(self).await.map(drop)
    }
}

row! {
    /// A row of `facts.sql`. Each part has some of the columns.
    struct FactRow {
        part: i32,
        brand: Option<String>,
        currency: Option<String>,
        sku_id: Option<i64>,
        sku: Option<String>,
        price: Option<i64>,
        available: Option<i64>,
        launch_id: Option<i64>,
        opens_at: Option<i64>,
        opens_in: Option<i64>,
        customer_limit: Option<i64>,
        sku_limit: Option<i64>,
        units: Option<i64>,
        key: Option<Vec<u8>>,
        order: Option<Uuid>,
        fingerprint: Option<Vec<u8>>,
        outcome: Option<String>,
        position: Option<i64>,
        committed_at: Option<i64>,
        bought: Option<i64>,
        customer: Option<Vec<u8>>,
    }
}

impl FactRow {
    /// Adds the row to those of its part.
    fn add_to(self, rows: &mut FactRows) -> sqlx::Result<()> {
        let Self { brand, currency, sku_id, sku, price, launch_id, opens_at, customer_limit, .. } = self;
        match self.part {
            0 | 1 => rows.offers.push(OfferRow {
                brand: some(brand)?,
                currency: some(currency)?,
                sku_id,
                sku,
                price,
                available: self.available,
                launch_id,
                opens_at,
                opens_in: self.opens_in,
                customer_limit,
                sku_limit: self.sku_limit,
                units_left: self.units,
            }),
            2 => rows.settled.push(SettledRow {
                key: some(self.key)?,
                order: some(self.order)?,
                fingerprint: some(self.fingerprint)?,
                outcome: some(self.outcome)?,
                sku,
                price,
                currency,
                position: some(self.position)?,
                committed_at: some(self.committed_at)?,
                opens_at,
                customer_limit,
                bought: self.bought,
            }),
            3 => rows.standing.push(StandingRow {
                order: some(self.order)?,
                brand: some(brand)?,
                state: some(self.outcome)?,
            }),
            _ => rows.purchases.push(PurchasedRow {
                launch_id: some(launch_id)?,
                customer: some(self.customer)?,
                sku_id: some(sku_id)?,
                units: some(self.units)?,
            }),
        }
        Ok(())
    }
}

/// Returns a value that the column of its part always has.
fn some<V>(value: Option<V>) -> sqlx::Result<V> {
    value.ok_or_else(|| sqlx::Error::Decode("a part of facts.sql lacks one of its columns".into()))
}

/// Binds the time and the outcomes, with which two statements begin.
fn of_outcomes<'q, O: for<'r> FromRow<'r, PgRow>>(
    sql: &'static str,
    rows: &'q [OutcomeRow<'_>],
    at: UnixMicros,
) -> QueryAs<'q, Postgres, O, PgArguments> {
    sqlx::query_as(sql)
        .bind(at.get())
        .bind(column(rows, |row| row.key.as_bytes().as_slice()))
        .bind(column(rows, |row| row.brand))
        .bind(column(rows, |row| row.operation))
        .bind(column(rows, |row| row.order))
        .bind(column(rows, |row| row.fingerprint))
        .bind(column(rows, |row| row.outcome.code()))
        .bind(column(rows, |row| row.outcome.sku().map(|sku| sku.as_str())))
        .bind(column(rows, |row| row.outcome.price().map(|price| price.amount())))
        .bind(column(rows, |row| row.outcome.price().map(|price| price.currency().to_string())))
        .bind(column(rows, |row| row.launch_columns().0))
        .bind(column(rows, |row| row.launch_columns().1))
        .bind(column(rows, |row| row.launch_columns().2))
}

impl Questions for PgConnection {
    async fn orders(&mut self, questions: &[Question]) -> sqlx::Result<Vec<look_up::OrderRow>> {
        sqlx::query_as(include_str!("look_up.sql"))
            .bind(column(questions, |question| question.brand.as_str()))
            .bind(column(questions, |question| question.order.as_uuid()))
            .bind(column(questions, |question| question.key.as_ref().map(|key| key.as_bytes().as_slice())))
            .fetch_all(self)
            .await
    }

    async fn lines(&mut self, orders: &[Uuid]) -> sqlx::Result<Vec<look_up::LineRow>> {
        sqlx::query_as(include_str!("lines.sql")).bind(orders).fetch_all(self).await
    }
}

/// Number of columns of `order_personal` that hold a personal value.
const PERSONAL_FIELDS: usize = bridge_protocol::domain::PersonalField::ALL.len();
