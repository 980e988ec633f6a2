//! What is found behind an order's lock: the order, a payment of it, and the time.

use bridge_protocol::domain::{OrderId, PaymentId, UnixMicros};

use super::rows::{OrderRow, read_payment, read_refund};
use super::statements::Statements;
use crate::database::LedgerError;
use crate::payments::Payment;

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
