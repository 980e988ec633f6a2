//! Rows of payments and refunds, and how they become the domain's types. A row that this build would not have written is
//! an error, never a guess.

use bridge_protocol::domain::{
    Brand, Currency, Money, OrderId, PaymentId, PaymentKey, PaymentState, ReasonCode, RefundId, RefundState,
    UnixMicros,
};
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};
use uuid::Uuid;

use super::{LedgerError, Statements};
use crate::database::row;
use crate::payment::{Charge, Payment, Refund};

row! {
    /// A payment.
    pub struct PaymentRow {
        pub(in crate::ledger) payment: Uuid,
        pub(in crate::ledger) brand: String,
        pub(in crate::ledger) order: Uuid,
        pub(in crate::ledger) amount: i64,
        pub(in crate::ledger) currency: String,
        pub(in crate::ledger) payment_key: String,
        pub(in crate::ledger) state: String,
        pub(in crate::ledger) refunded: i64,
        pub(in crate::ledger) code: Option<String>,
        pub(in crate::ledger) asks: i64,
        pub(in crate::ledger) created_at: i64,
        pub(in crate::ledger) concluded_at: Option<i64>,
        pub(in crate::ledger) confirm_until: i64,
    }
}

row! {
    /// A refund.
    pub struct RefundRow {
        pub(in crate::ledger) refund: Uuid,
        pub(in crate::ledger) payment: Uuid,
        pub(in crate::ledger) amount: i64,
        pub(in crate::ledger) reason: String,
        pub(in crate::ledger) automatic: bool,
        pub(in crate::ledger) state: String,
        pub(in crate::ledger) code: Option<String>,
        pub(in crate::ledger) asks: i64,
        pub(in crate::ledger) created_at: i64,
        pub(in crate::ledger) give_back_until: i64,
    }
}

/// `fingerprint, payment_id, refund_id`
pub(in crate::ledger) type RequestRow = (Vec<u8>, Uuid, Option<Uuid>);

row! {
    /// An order that was placed.
    pub struct OrderRow {
        pub(in crate::ledger) brand: String,
        pub(in crate::ledger) state: String,
        pub(in crate::ledger) currency: String,
        pub(in crate::ledger) total: i64,
    }
}

/// A payment that is due, and the state of its order: the columns of [`PaymentRow`], and one behind them.
pub struct DueRow {
    pub(in crate::ledger) payment: PaymentRow,
    pub(in crate::ledger) order_state: Option<String>,
}

impl<'r, R: Row> FromRow<'r, R> for DueRow
where
    PaymentRow: FromRow<'r, R>,
    usize: ColumnIndex<R>,
    Option<String>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> sqlx::Result<Self> {
        Ok(Self { payment: PaymentRow::from_row(row)?, order_state: row.try_get(ORDER_STATE_AT)? })
    }
}

/// The place of the order's state in a [`DueRow`], from 0.
const ORDER_STATE_AT: usize = 13;

/// An order's row, locked.
pub(super) struct Order {
    pub(super) brand: String,
    pub(super) placed: bool,
    pub(super) currency: String,
    pub(super) total: i64,
}

/// The database's clock. Whatever a payment's age decides is judged by it: two agents' clocks may differ.
pub(super) async fn clock(tx: &mut impl Statements) -> Result<UnixMicros, LedgerError> {
    Ok(UnixMicros::new(tx.clock().await?))
}

/// Locks an order; `None` if there is none that was placed.
pub(super) async fn lock_order(
    tx: &mut impl Statements,
    order: OrderId,
) -> Result<Option<Order>, LedgerError> {
    let found = tx.lock_order(order.as_uuid()).await?;
    Ok(found.map(|OrderRow { brand, state, currency, total }| Order {
        brand,
        placed: state == "placed",
        currency,
        total,
    }))
}

/// A payment behind the lock of its order, and whether that order stands.
pub(super) async fn locked(
    tx: &mut impl Statements,
    order: OrderId,
    id: PaymentId,
) -> Result<(Payment, bool), LedgerError> {
    let order = lock_order(tx, order).await?;
    Ok((found(tx, id).await?, order.is_some_and(|order| order.placed)))
}

/// A payment that must be there.
pub(super) async fn found(tx: &mut impl Statements, id: PaymentId) -> Result<Payment, LedgerError> {
    let missing = LedgerError::Corrupt { table: "payments", what: "a payment that is not there" };
    payment(tx, id).await?.ok_or(missing)
}

/// A payment with its refunds.
pub(super) async fn payment(
    tx: &mut impl Statements,
    payment: PaymentId,
) -> Result<Option<Payment>, LedgerError> {
    match tx.payment(payment.as_uuid()).await? {
        Some(row) => with_refunds(tx, read_payment(&row)?).await.map(Some),
        None => Ok(None),
    }
}

/// Adds a payment's refunds to it.
pub(super) async fn with_refunds(
    tx: &mut impl Statements,
    mut payment: Payment,
) -> Result<Payment, LedgerError> {
    let rows = tx.refunds(payment.charge.payment.as_uuid()).await?;
    payment.refunds =
        rows.into_iter().map(|row| read_refund(row).map(|(_, refund)| refund)).collect::<Result<_, _>>()?;
    Ok(payment)
}

/// A payment, without its refunds.
pub(super) fn read_payment(row: &PaymentRow) -> Result<Payment, LedgerError> {
    let read = || {
        let charge = Charge {
            payment: PaymentId::from_uuid(row.payment).ok()?,
            order: OrderId::from_uuid(row.order).ok()?,
            amount: Money::new(row.amount, Currency::new(&row.currency).ok()?)?,
            payment_key: PaymentKey::new(&row.payment_key)?,
        };
        Some(Payment {
            brand: Brand::new(&row.brand).ok()?,
            charge,
            state: PaymentState::from_code(&row.state)?,
            refunded: row.refunded,
            code: read_code(row.code.as_deref())?,
            asks: u32::try_from(row.asks).ok()?,
            created_at: UnixMicros::new(row.created_at),
            concluded_at: row.concluded_at.map(UnixMicros::new),
            confirm_until: UnixMicros::new(row.confirm_until),
            refunds: Vec::new(),
        })
    };
    read().ok_or(LedgerError::Corrupt { table: "payments", what: "a payment that does not fit together" })
}

/// A refund, and whose it is.
pub(super) fn read_refund(row: RefundRow) -> Result<(PaymentId, Refund), LedgerError> {
    let read = || {
        let refund = Refund {
            refund: RefundId::from_uuid(row.refund).ok()?,
            amount: row.amount,
            reason: row.reason,
            automatic: row.automatic,
            state: RefundState::from_code(&row.state)?,
            code: read_code(row.code.as_deref())?,
            asks: u32::try_from(row.asks).ok()?,
            created_at: UnixMicros::new(row.created_at),
            give_back_until: UnixMicros::new(row.give_back_until),
        };
        Some((PaymentId::from_uuid(row.payment).ok()?, refund))
    };
    read().ok_or(LedgerError::Corrupt { table: "refunds", what: "a refund that does not fit together" })
}

/// `None` for a text that is no code.
fn read_code(code: Option<&str>) -> Option<Option<ReasonCode>> {
    match code {
        Some(code) => ReasonCode::new(code).map(Some),
        None => Some(None),
    }
}
