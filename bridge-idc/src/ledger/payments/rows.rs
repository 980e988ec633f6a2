//! Rows of payments and refunds, and how they become the domain's types. A row that this build would not have written is
//! an error, never a guess.

use bridge_protocol::domain::{
    Brand, Currency, Money, OrderId, PaymentId, PaymentKey, PaymentState, ReasonCode, RefundId, RefundState,
    UnixMicros,
};
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};
use uuid::Uuid;

use super::{LedgerError, Statements};
use crate::payment::{Charge, Payment, Refund};

/// `payment_id, brand, order_id, amount, currency, payment_key, state, refunded, code, asks, created_at, concluded_at,
/// confirm_until`
pub(in crate::ledger) type PaymentRow =
    (Uuid, String, Uuid, i64, String, String, String, i64, Option<String>, i64, i64, Option<i64>, i64);

/// `refund_id, payment_id, amount, reason, automatic, state, code, asks, created_at, give_back_until`
pub(in crate::ledger) type RefundRow = (Uuid, Uuid, i64, String, bool, String, Option<String>, i64, i64, i64);

/// `fingerprint, payment_id, refund_id`
pub(in crate::ledger) type RequestRow = (Vec<u8>, Uuid, Option<Uuid>);

/// `brand, state, currency, total`
pub(in crate::ledger) type OrderRow = (String, String, String, i64);

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
    Ok(found.map(|(brand, state, currency, total)| Order {
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
        Some(row) => with_refunds(tx, read_payment(row)?).await.map(Some),
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
pub(super) fn read_payment(row: PaymentRow) -> Result<Payment, LedgerError> {
    let (
        id,
        brand,
        order,
        amount,
        currency,
        key,
        state,
        refunded,
        code,
        asks,
        created_at,
        concluded_at,
        confirm_until,
    ) = row;
    let read = || {
        let charge = Charge {
            payment: PaymentId::from_uuid(id).ok()?,
            order: OrderId::from_uuid(order).ok()?,
            amount: Money::new(amount, Currency::new(&currency).ok()?)?,
            payment_key: PaymentKey::new(&key)?,
        };
        Some(Payment {
            brand: Brand::new(&brand).ok()?,
            charge,
            state: PaymentState::from_code(&state)?,
            refunded,
            code: read_code(code.as_deref())?,
            asks: u32::try_from(asks).ok()?,
            created_at: UnixMicros::new(created_at),
            concluded_at: concluded_at.map(UnixMicros::new),
            confirm_until: UnixMicros::new(confirm_until),
            refunds: Vec::new(),
        })
    };
    read().ok_or(LedgerError::Corrupt { table: "payments", what: "a payment that does not fit together" })
}

/// A refund, and whose it is.
pub(super) fn read_refund(row: RefundRow) -> Result<(PaymentId, Refund), LedgerError> {
    let (id, payment, amount, reason, automatic, state, code, asks, created_at, give_back_until) = row;
    let read = || {
        let refund = Refund {
            refund: RefundId::from_uuid(id).ok()?,
            amount,
            reason,
            automatic,
            state: RefundState::from_code(&state)?,
            code: read_code(code.as_deref())?,
            asks: u32::try_from(asks).ok()?,
            created_at: UnixMicros::new(created_at),
            give_back_until: UnixMicros::new(give_back_until),
        };
        Some((PaymentId::from_uuid(payment).ok()?, refund))
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
