//! Reads of the ledger outside any batch: the state of an order, its personal data as ciphertext,
//! and sums.
//!
//! Statements that are the same in every database are in `common/`.

use bridge_protocol::domain::{Brand, KeyDigest, OrderId, PersonalField, Sku, UnixMicros};
use bridge_protocol::wire::order::State;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::look_up::{self, Question};
use super::{Ledger, LedgerError};
use crate::database::{QuestionConnection, on_database, row, soon};
use crate::payments::Payment;
use crate::payments::store::{self, NotDone, Sums};
use crate::vault::PersonalAtRest;

/// Units of a SKU: `initial = available + sold`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockSum {
    /// The SKU.
    pub sku: Sku,
    /// Units that were ever added.
    pub initial: i64,
    /// Units that are for sale.
    pub available: i64,
    /// Units in placed orders.
    pub sold: i64,
}

row! {
    /// Counts over all brands.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Totals {
        /// Orders in state `placed`.
        pub placed: i64,
        /// Orders that were placed and cancelled later.
        pub cancelled: i64,
        /// Orders that were rejected, for example because they were sold out or a price had
        /// changed.
        pub rejected: i64,
        /// Lines of placed orders.
        pub lines: i64,
        /// Units of placed orders.
        pub units: i64,
    }
}

impl Ledger {
    /// Returns the state of an order of this brand. With a key, the order is the one that was
    /// placed under that key, and `order` does not matter. Position and time are those of the
    /// outcome that placed or rejected the order.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer or a row is corrupt.
    pub async fn look_up(
        &self,
        brand: &Brand,
        order: OrderId,
        key: Option<KeyDigest>,
    ) -> Result<Option<State>, LedgerError> {
        let question = Question { brand: brand.clone(), order, key };
        Ok(self.look_up_all(&[question]).await?.pop().flatten())
    }

    /// Returns the number of connections that questions, payments and the feed share.
    pub(crate) fn shared_connections(&self) -> usize {
        let connections =
            on_database!(self.database, database => database.pool.options().get_max_connections());
        usize::try_from(connections).unwrap_or(usize::MAX)
    }

    /// Returns the reason why the database cannot be reached, if another attempt finds it.
    pub(crate) async fn why_unreachable(&self) -> Option<LedgerError> {
        self.database.why_unreachable().await
    }

    /// True if every one of these connections is in use.
    pub(crate) fn is_every_connection_taken(&self) -> bool {
        self.database.is_every_connection_taken()
    }

    /// Looks many orders up in two statements. Each answer is at the index of its question.
    ///
    /// # Errors
    ///
    /// Fails as a whole if the database does not answer in time or a row is corrupt.
    pub async fn look_up_all(&self, questions: &[Question]) -> Result<Vec<Option<State>>, LedgerError> {
        // Boxed because the futures of all databases together are too large for every caller's
        // future.
        let looking_up = Box::pin(async {
            on_database!(self.database, database => {
                let mut asking = QuestionConnection::of(&database.pool).await?;
                let states = look_up::look_up(asking.connection(), questions).await;
                if !matches!(states, Err(LedgerError::Unavailable(_))) {
                    asking.give_back();
                }
                states
            })
        });
        soon(looking_up).await
    }

    /// Returns an order's brand and its personal data as ciphertext.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer or a row is corrupt.
    pub async fn personal(&self, order: OrderId) -> Result<Option<(Brand, PersonalAtRest)>, LedgerError> {
        let found: Option<PersonalRow> = on_database!(self.database, database =>
            sqlx::query_as(include_str!("common/personal.sql"))
                .bind(order.as_uuid()).fetch_optional(&database.pool).await?);
        let Some(PersonalRow { brand, personal }) = found else { return Ok(None) };
        let corrupt = LedgerError::Corrupt { table: "orders", what: "an invalid brand name" };
        let brand = Brand::new(&brand).map_err(|_| corrupt)?;
        Ok(Some((brand, personal)))
    }

    /// Returns the login of these connections; `None` on SQLite, which has none.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer.
    pub async fn login(&self) -> Result<Option<String>, LedgerError> {
        self.database.login().await
    }

    /// Records that a person has an order's personal data decrypted. The record must be durable
    /// before the person sees any data.
    ///
    /// # Errors
    ///
    /// Fails if the record is not durable. No data may then be shown.
    pub async fn record_personal_access(
        &self,
        order: OrderId,
        purpose: &str,
        who: &str,
        at: UnixMicros,
    ) -> Result<(), LedgerError> {
        let sql = include_str!("common/record_personal_access.sql");
        on_database!(self.database, database => {
            let insert = sqlx::query(sql).bind(order.as_uuid()).bind(purpose).bind(who).bind(at.get());
            insert.execute(database.writer()).await.map(drop)?;
        });
        Ok(())
    }

    /// Returns the stock of a brand, SKU by SKU.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer or a row is corrupt.
    pub async fn stock_sums(&self, brand: &Brand) -> Result<Vec<StockSum>, LedgerError> {
        let rows: Vec<StockSumRow> = on_database!(self.database, database =>
            sqlx::query_as(include_str!("common/stock_sums.sql"))
                .bind(brand.as_str()).fetch_all(&database.pool).await?);
        let sums = rows.into_iter().map(|StockSumRow { sku, initial, available, sold }| {
            let sku = Sku::new(&sku).ok_or(LedgerError::Corrupt { table: "skus", what: "an invalid SKU" })?;
            Ok(StockSum { sku, initial, available, sold })
        });
        sums.collect()
    }

    /// Returns the newest payments with their refunds. With `in_doubt`, only payments of unknown
    /// outcome or with money that must still go back.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer or a row is corrupt.
    pub async fn payments(&self, in_doubt: bool, rows_max: i64) -> Result<Vec<Payment>, NotDone> {
        store::payments(&self.database, in_doubt, rows_max).await
    }

    /// Returns the sums of all charges and refunds.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer or a row is corrupt.
    pub async fn payment_sums(&self) -> Result<Sums, NotDone> {
        store::sums(&self.database).await
    }

    /// Returns counts over all brands.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer.
    pub async fn totals(&self) -> Result<Totals, LedgerError> {
        Ok(on_database!(self.database, database =>
            sqlx::query_as(include_str!("common/totals.sql")).fetch_one(&database.pool).await?))
    }
}

row! {
    /// A row of [`StockSum`].
    struct StockSumRow {
        sku: String,
        initial: i64,
        available: i64,
        sold: i64,
    }
}

/// Columns `brand, key_version, wrapped_key`, and the values in the order of
/// [`PersonalField::ALL`].
struct PersonalRow {
    brand: String,
    personal: PersonalAtRest,
}

impl<'r, R: Row> FromRow<'r, R> for PersonalRow
where
    usize: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i32: Decode<'r, R::Database> + Type<R::Database>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
    Option<Vec<u8>>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> sqlx::Result<Self> {
        let mut fields = [const { None }; PersonalField::ALL.len()];
        for (field, column) in fields.iter_mut().zip(3_usize..) {
            *field = row.try_get(column)?;
        }
        let personal = PersonalAtRest { key_version: row.try_get(1)?, wrapped_key: row.try_get(2)?, fields };
        Ok(Self { brand: row.try_get(0)?, personal })
    }
}

const _: () = assert!(PersonalField::ALL.len() == 9, "the statements name nine values");
