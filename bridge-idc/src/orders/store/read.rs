//! Questions to the ledger outside any batch: how an order stands, its personal data as ciphertext, sums.
//!
//! Statements that read alike in every database stand once, in `common/`.

use bridge_protocol::domain::{Brand, KeyDigest, OrderId, PersonalField, Sku, UnixMicros};
use bridge_protocol::wire::order::State;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::look_up::{self, Question};
use super::{Ledger, LedgerError};
use crate::database::{QuestionConnection, on_database, row, soon};
use crate::payments::Payment;
use crate::payments::store::{self, NotDone, Sums};
use crate::vault::PersonalAtRest;

/// A SKU's units: `initial = available + sold`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockSum {
    /// Which SKU.
    pub sku: Sku,
    /// Units that were ever brought in.
    pub initial: i64,
    /// Units still for sale.
    pub available: i64,
    /// Units in orders that stand.
    pub sold: i64,
}

row! {
    /// What the ledger holds of all brands together.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Totals {
        /// Orders that stand.
        pub placed: i64,
        /// Orders that were placed and cancelled later.
        pub cancelled: i64,
        /// Orders that were decided and not placed: sold out, another price.
        pub rejected: i64,
        /// Lines of the orders that stand.
        pub lines: i64,
        /// Units of the orders that stand.
        pub units: i64,
    }
}

impl Ledger {
    /// How an order of this brand stands; with a key, the order that was placed under it, whatever its id. The position
    /// and the time are those of the outcome that placed or rejected it.
    pub async fn look_up(
        &self,
        brand: &Brand,
        order: OrderId,
        key: Option<KeyDigest>,
    ) -> Result<Option<State>, LedgerError> {
        let question = Question { brand: brand.clone(), order, key };
        Ok(self.look_up_all(&[question]).await?.pop().flatten())
    }

    /// Returns how many connections questions, payments and the feed share.
    pub(crate) fn shared_connections(&self) -> usize {
        let connections =
            on_database!(self.database, database => database.pool.options().get_max_connections());
        usize::try_from(connections).unwrap_or(usize::MAX)
    }

    /// Looks up many orders in two statements. Each answer stands in the place of its question.
    ///
    /// # Errors
    /// If the database does not answer, or not in time; then none is answered.
    pub async fn look_up_all(&self, questions: &[Question]) -> Result<Vec<Option<State>>, LedgerError> {
        // Boxed: all databases' states together are too large to be moved about inside every caller's.
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

    /// An order's personal data as ciphertext, and whose order it is.
    pub async fn personal(&self, order: OrderId) -> Result<Option<(Brand, PersonalAtRest)>, LedgerError> {
        let found: Option<PersonalRow> = on_database!(self.database, database =>
            sqlx::query_as(include_str!("common/personal.sql"))
                .bind(order.as_uuid()).fetch_optional(&database.pool).await?);
        let Some(PersonalRow { brand, personal }) = found else { return Ok(None) };
        let corrupt = LedgerError::Corrupt { table: "orders", what: "a name that is no brand's" };
        let brand = Brand::new(&brand).map_err(|_| corrupt)?;
        Ok(Some((brand, personal)))
    }

    /// Notes that somebody has an order's personal data decrypted. To be durable before they see any of it.
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

    /// A brand's stock, SKU by SKU.
    pub async fn stock_sums(&self, brand: &Brand) -> Result<Vec<StockSum>, LedgerError> {
        let rows: Vec<StockSumRow> = on_database!(self.database, database =>
            sqlx::query_as(include_str!("common/stock_sums.sql"))
                .bind(brand.as_str()).fetch_all(&database.pool).await?);
        let sums = rows.into_iter().map(|StockSumRow { sku, initial, available, sold }| {
            let sku = Sku::new(&sku).ok_or(LedgerError::Corrupt { table: "skus", what: "no SKU" })?;
            Ok(StockSum { sku, initial, available, sold })
        });
        sums.collect()
    }

    /// The newest payments, or the newest of those in doubt or whose money is to be back and is not, with their refunds.
    pub async fn payments(&self, in_doubt: bool, rows_max: i64) -> Result<Vec<Payment>, NotDone> {
        store::payments(&self.database, in_doubt, rows_max).await
    }

    /// What was charged and given back.
    pub async fn payment_sums(&self) -> Result<Sums, NotDone> {
        store::sums(&self.database).await
    }

    /// Counts over all brands.
    pub async fn totals(&self) -> Result<Totals, LedgerError> {
        Ok(on_database!(self.database, database =>
            sqlx::query_as(include_str!("common/totals.sql")).fetch_one(&database.pool).await?))
    }
}

row! {
    /// A [`StockSum`].
    struct StockSumRow {
        sku: String,
        initial: i64,
        available: i64,
        sold: i64,
    }
}

/// `brand, key_version, wrapped_key`, and the values by the order of [`PersonalField::ALL`].
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
