//! PostgreSQL: binds arrays to the statements beside this file, and decodes their rows.

use bridge_protocol::domain::UnixMicros;
use sqlx::PgConnection;
use uuid::Uuid;

use super::look_up::{self, Question, Questions};
use super::rows::{
    LockedRow, OfferRow, OutcomeRow, PlacedRows, PositionRow, PurchaseRow, PurchasedRow, SettledRow,
    StandingRow, UnitsRow,
};
use super::statements::{Locking, Statements};
use crate::database::postgres::arrays::column;
use crate::database::postgres::held::{WAIT_FOR_STOCK, set_lock_timeout};
use crate::database::postgres::{AWAITED_FOR, LOCK_TIMEOUT};
use crate::orders::planner::{Awaited, CustomerTag};

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

    async fn offers(
        &mut self,
        brands: &[&str],
        named: &[(&str, &str)],
        sku_ids: &[i64],
    ) -> sqlx::Result<Vec<OfferRow>> {
        sqlx::query_as(include_str!("offers.sql"))
            .bind(brands)
            .bind(column(named, |(brand, _)| *brand))
            .bind(column(named, |(_, sku)| *sku))
            .bind(sku_ids)
            .fetch_all(self)
            .await
    }

    async fn purchases(&mut self, of: &[(i64, CustomerTag)]) -> sqlx::Result<Vec<PurchasedRow>> {
        sqlx::query_as(include_str!("purchases.sql"))
            .bind(column(of, |(launch_id, _)| *launch_id))
            .bind(column(of, |(_, customer)| customer.as_bytes().as_slice()))
            .fetch_all(self)
            .await
    }

    async fn settled(&mut self, keys: &[&[u8]]) -> sqlx::Result<Vec<SettledRow>> {
        sqlx::query_as(include_str!("settled.sql")).bind(keys).fetch_all(self).await
    }

    async fn standing(&mut self, orders: &[Uuid]) -> sqlx::Result<Vec<StandingRow>> {
        sqlx::query_as(include_str!("standing.sql")).bind(orders).fetch_all(self).await
    }

    async fn insert_outcomes(
        &mut self,
        rows: &[OutcomeRow<'_>],
        at: UnixMicros,
    ) -> sqlx::Result<Vec<PositionRow>> {
        sqlx::query_as(include_str!("insert_outcomes.sql"))
            .bind(column(rows, |row| row.key))
            .bind(column(rows, |row| row.brand))
            .bind(column(rows, |row| row.operation))
            .bind(column(rows, |row| row.order))
            .bind(column(rows, |row| row.fingerprint))
            .bind(column(rows, |row| row.outcome.code()))
            .bind(column(rows, |row| row.outcome.sku().map(|sku| sku.as_str())))
            .bind(column(rows, |row| row.outcome.price().map(|price| price.amount())))
            .bind(column(rows, |row| row.outcome.price().map(|price| price.currency().to_string())))
            .bind(at.get())
            .bind(column(rows, |row| row.launch_columns().0))
            .bind(column(rows, |row| row.launch_columns().1))
            .bind(column(rows, |row| row.launch_columns().2))
            .fetch_all(self)
            .await
    }

    async fn write_placed(
        &mut self,
        placed: &PlacedRows<'_>,
        moves: &[(i64, i64)],
        at: UnixMicros,
    ) -> sqlx::Result<u64> {
        let PlacedRows { orders, lines, personal } = placed;
        let mut write = sqlx::query_scalar::<_, i64>(include_str!("write_placed.sql"))
            .bind(column(orders, |row| row.order))
            .bind(column(orders, |row| row.brand))
            .bind(column(orders, |row| row.position))
            .bind(column(orders, |row| row.terms.customer_reference()))
            .bind(column(orders, |row| row.terms.currency().to_string()))
            .bind(column(orders, |row| row.terms.shipping_fee().amount()))
            .bind(column(orders, |row| row.terms.total().amount()))
            .bind(at.get())
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
        let write = write.bind(column(moves, |(sku_id, _)| *sku_id)).bind(column(moves, |(_, units)| *units));
        Ok(u64::try_from(write.fetch_one(self).await?).unwrap_or_default())
    }

    async fn cancel_orders(&mut self, orders: &[Uuid], at: UnixMicros) -> sqlx::Result<u64> {
        let update = sqlx::query(include_str!("cancel_orders.sql")).bind(orders).bind(at.get());
        Ok(update.execute(self).await?.rows_affected())
    }

    async fn move_stock(&mut self, moves: &[(i64, i64)]) -> sqlx::Result<u64> {
        let update = sqlx::query(include_str!("move_stock.sql"))
            .bind(column(moves, |(sku_id, _)| *sku_id))
            .bind(column(moves, |(_, units)| *units));
        Ok(update.execute(self).await?.rows_affected())
    }

    async fn insert_purchases(&mut self, rows: &[PurchaseRow<'_>]) -> sqlx::Result<()> {
        let insert = sqlx::query(include_str!("insert_purchases.sql"))
            .bind(column(rows, |row| row.order))
            .bind(column(rows, |row| row.units.sku_id))
            .bind(column(rows, |row| row.units.launch_id))
            .bind(column(rows, |row| row.units.customer.as_bytes().as_slice()))
            .bind(column(rows, |row| row.units.units));
        insert.execute(self).await.map(drop)
    }

    async fn give_back(&mut self, orders: &[Uuid], at: UnixMicros) -> sqlx::Result<()> {
        let update = sqlx::query(include_str!("give_back.sql")).bind(orders).bind(at.get());
        update.execute(self).await.map(drop)
    }

    async fn move_launches(&mut self, moves: &[(i64, i64)]) -> sqlx::Result<u64> {
        let update = sqlx::query(include_str!("move_launches.sql"))
            .bind(column(moves, |(launch_id, _)| *launch_id))
            .bind(column(moves, |(_, units)| *units));
        Ok(update.execute(self).await?.rows_affected())
    }
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
