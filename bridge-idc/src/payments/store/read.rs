//! Reads of payments, and of the rows that are due.

use std::time::Duration;

use bridge_protocol::domain::{Brand, KeyDigest, OrderId, PaymentId, UnixMicros};

use super::rows::{DoubtRow, DueRow, PaymentRow, RefundRow, read_payment, read_refund};
use super::statements::{Statements, clock, payment, with_refunds};
use crate::database::{
    Database, LedgerError, NotDone, Transaction, common, in_transaction, on_connection, row,
};
use crate::payments::{GiveBack, Payment, Refund};

/// A payment of unknown outcome that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuePayment {
    /// The payment, without its refunds.
    pub payment: Payment,
    /// Time since the payment was begun, by the database's clock.
    pub age: Duration,
    /// Time since the last request to charge could be on its way, by the database's clock.
    pub quiet: Duration,
    /// True if the payment's order is placed and not cancelled. Only then may the gateway be asked
    /// to charge once more.
    pub order_stands: bool,
}

/// A refund to request, perhaps again, or to look at if it was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRefund {
    /// The request to the gateway.
    pub give_back: GiveBack,
    /// The refund.
    pub refund: Refund,
    /// Time since the refund was begun, by the database's clock.
    pub age: Duration,
}

/// Number and age of unknown outcomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Doubt {
    /// Number of payments and refunds of unknown outcome.
    pub count: i64,
    /// Time since the oldest of them was begun, by the database's clock.
    pub oldest: Option<Duration>,
    /// Number of payments that were charged late and are not refunded yet.
    pub charged_late: i64,
}

row! {
    /// Sums over all payments that moved money, in minor units.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct Sums {
        /// Charged amount.
        pub charged: i64,
        /// Refunded amount.
        pub refunded: i64,
        /// Number of payments.
        pub payments: i64,
    }
}

/// Returns the newest payments with their refunds. With `in_doubt`, only payments of unknown
/// outcome or with money that must still go back.
pub(crate) async fn payments(
    database: &Database,
    in_doubt: bool,
    rows_max: i64,
) -> Result<Vec<Payment>, NotDone> {
    in_transaction!(database, reading tx => list(tx, in_doubt, rows_max).await)
}

/// Returns the sums of all charges and refunds.
pub(crate) async fn sums(database: &Database) -> Result<Sums, NotDone> {
    in_transaction!(database, reading tx => sum(tx).await)
}

async fn list(tx: &mut Transaction, in_doubt: bool, rows_max: i64) -> Result<Vec<Payment>, LedgerError> {
    let rows: Vec<PaymentRow> = on_connection!(tx, connection =>
        sqlx::query_as(common!("list")).bind(i64::from(in_doubt)).bind(rows_max)
            .fetch_all(connection).await?);
    let mut payments = Vec::with_capacity(rows.len());
    for row in rows {
        payments.push(with_refunds(tx, read_payment(&row)?).await?);
    }
    Ok(payments)
}

async fn sum(tx: &mut Transaction) -> Result<Sums, LedgerError> {
    Ok(on_connection!(tx, connection =>
        sqlx::query_as(common!("sums")).fetch_one(connection).await?))
}

pub(super) async fn look_up(
    tx: &mut impl Statements,
    brand: &Brand,
    order: OrderId,
    payment: PaymentId,
    key: Option<KeyDigest>,
) -> Result<Option<Payment>, LedgerError> {
    let key = key.as_ref().map(|key| key.as_bytes().as_slice());
    match tx.payment_of(brand.as_str(), order.as_uuid(), payment.as_uuid(), key).await? {
        Some(row) => with_refunds(tx, read_payment(&row)?).await.map(Some),
        None => Ok(None),
    }
}

pub(super) async fn hint(
    tx: &mut impl Statements,
    order: OrderId,
    ask_after: Duration,
) -> Result<bool, LedgerError> {
    let (order, ask_at) = (order.as_uuid(), clock(tx).await?.plus(ask_after).get());
    let hinted = tx.hint(order, ask_at).await? + tx.hint_given_up(order, ask_at).await?;
    Ok(hinted > 0)
}

pub(super) async fn doubt(tx: &mut impl Statements) -> Result<Doubt, LedgerError> {
    let now = clock(tx).await?;
    let DoubtRow { count, since, charged_late } = tx.doubt().await?;
    let oldest = since.map(|since| now.since(UnixMicros::new(since)));
    Ok(Doubt { count, oldest, charged_late })
}

pub(super) async fn take_due_payments(
    tx: &mut impl Statements,
    hold: Duration,
    rows_max: i64,
) -> Result<Vec<DuePayment>, LedgerError> {
    let now = clock(tx).await?;
    let until = now.plus(hold);
    let mut rows = tx.take_payments(now.get(), until.get(), rows_max).await?;
    let room = rows_max.saturating_sub(i64::try_from(rows.len()).unwrap_or(i64::MAX));
    rows.extend(tx.take_given_up(now.get(), until.get(), room).await?);
    let due = rows.into_iter().map(|DueRow { payment, order_state }| {
        let payment = read_payment(&payment)?;
        let (age, quiet) = (now.since(payment.created_at), now.since(payment.confirm_until));
        Ok(DuePayment { payment, age, quiet, order_stands: order_state.as_deref() == Some("placed") })
    });
    due.collect()
}

pub(super) async fn take_due_refunds(
    tx: &mut impl Statements,
    hold: Duration,
    rows_max: i64,
) -> Result<Vec<DueRefund>, LedgerError> {
    let now = clock(tx).await?;
    let until = now.plus(hold);
    let rows = tx.take_refunds(now.get(), until.get(), rows_max).await?;
    with_payments(tx, rows, now).await
}

pub(super) async fn take_refused_refunds(
    tx: &mut impl Statements,
    hold: Duration,
    rows_max: i64,
) -> Result<Vec<DueRefund>, LedgerError> {
    let now = clock(tx).await?;
    let rows = tx.take_refused(now.get(), now.plus(hold).get(), rows_max).await?;
    with_payments(tx, rows, now).await
}

async fn with_payments(
    tx: &mut impl Statements,
    rows: Vec<RefundRow>,
    now: UnixMicros,
) -> Result<Vec<DueRefund>, LedgerError> {
    let mut due = Vec::with_capacity(rows.len());
    for row in rows {
        let (of, refund) = read_refund(row)?;
        let corrupt = LedgerError::Corrupt { table: "refunds", what: "a refund without a payment" };
        let give_back = payment(tx, of).await?.and_then(|payment| payment.give_back(&refund));
        let age = now.since(refund.created_at);
        due.push(DueRefund { give_back: give_back.ok_or(corrupt)?, refund, age });
    }
    Ok(due)
}
