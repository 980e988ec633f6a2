//! Questions about payments, and the rows whose gateway is to be asked.

use std::time::Duration;

use bridge_protocol::domain::{Brand, KeyDigest, OrderId, PaymentId, UnixMicros};

use super::rows::{PaymentRow, RefundRow, clock, payment, read_payment, read_refund, with_refunds};
use super::{Ledger, LedgerError, NotDone, Tx, common, in_transaction, on_connection};
use crate::payment::{GiveBack, Payment, Refund};

/// A payment that nobody can tell about, and that is to be asked about now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuePayment {
    /// The payment, without its refunds.
    pub payment: Payment,
    /// How long ago it was begun,
    pub age: Duration,
    /// and for how long no request to charge has been on its way; by the database's clock both.
    pub quiet: Duration,
    /// Whether its order still stands: only then may the gateway be asked to charge once more.
    pub order_stands: bool,
}

/// A refund that is to be asked for, perhaps again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRefund {
    /// What the gateway is asked for.
    pub give_back: GiveBack,
    /// Which refund it is.
    pub refund: Refund,
    /// How long ago it was begun, by the database's clock.
    pub age: Duration,
}

/// How much nobody can tell about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Doubt {
    /// Payments and refunds.
    pub count: i64,
    /// How long ago the oldest of them was begun, by the database's clock.
    pub oldest: Option<Duration>,
    /// Payments that were charged late and whose money is not back.
    pub charged_late: i64,
}

/// Sums over all payments that moved money, in minor units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// What was charged.
    pub charged: i64,
    /// What was given back of it.
    pub refunded: i64,
    /// How many payments that is.
    pub payments: i64,
}

impl Ledger {
    /// A payment of this order; with a key, the one that was asked for under it, whatever its id.
    pub async fn look_up_payment(
        &self,
        brand: &Brand,
        order: OrderId,
        payment: PaymentId,
        key: Option<KeyDigest>,
    ) -> Result<Option<Payment>, NotDone> {
        let look_up = async |tx: &mut Tx<'_>| {
            let key = key.as_ref().map(|key| key.as_bytes().as_slice());
            let found: Option<PaymentRow> = on_connection!(tx, connection =>
                sqlx::query_as(common!("payment_of"))
                    .bind(brand.as_str()).bind(order.as_uuid()).bind(payment.as_uuid()).bind(key)
                    .fetch_optional(connection).await?);
            match found {
                Some(row) => with_refunds(tx, read_payment(row)?).await.map(Some),
                None => Ok(None),
            }
        };
        in_transaction!(self, reading tx => look_up(&mut tx).await)
    }

    /// Takes at most so many payments whose time has come. For so long nobody else takes them.
    pub async fn take_due_payments(&self, hold: Duration, rows_max: i64) -> Result<Vec<DuePayment>, NotDone> {
        in_transaction!(self, writing tx => take_due_payments(&mut tx, hold, rows_max).await)
    }

    /// Takes at most so many refunds whose time has come. For so long nobody else takes them.
    pub async fn take_due_refunds(&self, hold: Duration, rows_max: i64) -> Result<Vec<DueRefund>, NotDone> {
        in_transaction!(self, writing tx => take_due_refunds(&mut tx, hold, rows_max).await)
    }

    /// Somebody says that the gateway knows more of an order's payment: it is due after so long, unless it is due before.
    /// True if one in doubt, or one that was given up, is due earlier now.
    pub async fn hint_payment(&self, order: OrderId, ask_after: Duration) -> Result<bool, NotDone> {
        let hint = async |tx: &mut Tx<'_>| -> Result<bool, LedgerError> {
            let ask_at = clock(tx).await?.plus(ask_after);
            let mut hinted = 0;
            for statement in [common!("hint"), common!("hint_given_up")] {
                hinted += on_connection!(tx, connection =>
                    sqlx::query(statement).bind(order.as_uuid()).bind(ask_at.get())
                        .execute(connection).await?.rows_affected());
            }
            Ok(hinted > 0)
        };
        in_transaction!(self, writing tx => hint(&mut tx).await)
    }

    /// A payment with its refunds, by its id alone.
    pub async fn payment(&self, id: PaymentId) -> Result<Option<Payment>, NotDone> {
        in_transaction!(self, reading tx => payment(&mut tx, id).await)
    }

    /// The newest payments, or the newest of those in doubt or whose money is to be back and is not, with their refunds.
    pub async fn payments(&self, in_doubt: bool, rows_max: i64) -> Result<Vec<Payment>, NotDone> {
        let list = async |tx: &mut Tx<'_>| -> Result<Vec<Payment>, LedgerError> {
            let rows: Vec<PaymentRow> = on_connection!(tx, connection =>
                sqlx::query_as(common!("list")).bind(i64::from(in_doubt)).bind(rows_max)
                    .fetch_all(connection).await?);
            let mut payments = Vec::with_capacity(rows.len());
            for row in rows {
                payments.push(with_refunds(tx, read_payment(row)?).await?);
            }
            Ok(payments)
        };
        in_transaction!(self, reading tx => list(&mut tx).await)
    }

    /// How much nobody can tell about.
    pub async fn doubt(&self) -> Result<Doubt, NotDone> {
        let doubt = async |tx: &mut Tx<'_>| -> Result<Doubt, LedgerError> {
            let now = clock(tx).await?;
            let (count, since, charged_late): (i64, Option<i64>, i64) = on_connection!(tx, connection =>
                sqlx::query_as(common!("doubt")).fetch_one(connection).await?);
            let oldest = since.map(|since| now.since(UnixMicros::new(since)));
            Ok(Doubt { count, oldest, charged_late })
        };
        in_transaction!(self, reading tx => doubt(&mut tx).await)
    }

    /// What was charged and given back.
    pub async fn payment_sums(&self) -> Result<Sums, NotDone> {
        let sums = async |tx: &mut Tx<'_>| -> Result<Sums, LedgerError> {
            let (charged, refunded, payments) = on_connection!(tx, connection =>
                sqlx::query_as(common!("sums")).fetch_one(connection).await?);
            Ok(Sums { charged, refunded, payments })
        };
        in_transaction!(self, reading tx => sums(&mut tx).await)
    }
}

/// A statement that takes rows, for PostgreSQL and for SQLite.
macro_rules! taken {
    ($file:literal) => {
        (include_str!(concat!("postgres/", $file, ".sql")), include_str!(concat!("sqlite/", $file, ".sql")))
    };
}

async fn take_due_payments(
    tx: &mut Tx<'_>,
    hold: Duration,
    rows_max: i64,
) -> Result<Vec<DuePayment>, LedgerError> {
    let now = clock(tx).await?;
    let until = now.plus(hold);
    let mut rows = take(tx, taken!("take_payments"), now, until, rows_max).await?;
    let room = rows_max.saturating_sub(i64::try_from(rows.len()).unwrap_or(i64::MAX));
    rows.extend(take(tx, taken!("take_given_up"), now, until, room).await?);
    let due = rows.into_iter().map(
        |(
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
            at,
            end,
            held,
            order_state,
        )| {
            let payment = read_payment((
                id, brand, order, amount, currency, key, state, refunded, code, asks, at, end, held,
            ))?;
            let (age, quiet) = (now.since(payment.created_at), now.since(payment.confirm_until));
            Ok(DuePayment { payment, age, quiet, order_stands: order_state.as_deref() == Some("placed") })
        },
    );
    due.collect()
}

async fn take(
    tx: &mut Tx<'_>,
    (postgres, sqlite): (&'static str, &'static str),
    now: UnixMicros,
    until: UnixMicros,
    rows_max: i64,
) -> Result<Vec<DueRow>, LedgerError> {
    Ok(match tx {
        Tx::Postgres(connection) => {
            let take = sqlx::query_as(postgres).bind(now.get()).bind(until.get()).bind(rows_max);
            take.fetch_all(&mut **connection).await?
        }
        Tx::Sqlite(connection) => {
            let take = sqlx::query_as(sqlite).bind(now.get()).bind(until.get()).bind(rows_max);
            take.fetch_all(&mut **connection).await?
        }
    })
}

async fn take_due_refunds(
    tx: &mut Tx<'_>,
    hold: Duration,
    rows_max: i64,
) -> Result<Vec<DueRefund>, LedgerError> {
    let now = clock(tx).await?;
    let until = now.plus(hold);
    let rows: Vec<RefundRow> = match tx {
        Tx::Postgres(connection) => {
            let take = sqlx::query_as(include_str!("postgres/take_refunds.sql"));
            take.bind(now.get()).bind(until.get()).bind(rows_max).fetch_all(&mut **connection).await?
        }
        Tx::Sqlite(connection) => {
            let take = sqlx::query_as(include_str!("sqlite/take_refunds.sql"));
            take.bind(now.get()).bind(until.get()).bind(rows_max).fetch_all(&mut **connection).await?
        }
    };
    let mut due = Vec::with_capacity(rows.len());
    for row in rows {
        let (of, refund) = read_refund(row)?;
        let corrupt = LedgerError::Corrupt { table: "refunds", what: "a refund of no payment" };
        let give_back = payment(tx, of).await?.and_then(|payment| payment.give_back(&refund));
        let age = now.since(refund.created_at);
        due.push(DueRefund { give_back: give_back.ok_or(corrupt)?, refund, age });
    }
    Ok(due)
}

type DueRow = (
    uuid::Uuid,
    String,
    uuid::Uuid,
    i64,
    String,
    String,
    String,
    i64,
    Option<String>,
    i64,
    i64,
    Option<i64>,
    i64,
    Option<String>,
);
