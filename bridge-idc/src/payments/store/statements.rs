//! The statements of payments in one transaction, and reads under an order's lock that use them.
//! They decide nothing.
//!
//! The SQL is in `common/`, `postgres/` and `sqlite/`. In the simulation, a model implements the
//! statements.

use bridge_protocol::domain::{OrderId, PaymentId, RefundId, UnixMicros};
use sqlx::Result;
use uuid::Uuid;

use super::rows::{DoubtRow, DueRow, OrderRow, PaymentRow, RefundRow, RequestRow, read_payment, read_refund};
use crate::database::{AnyRow, LedgerError, Statement, Transaction, common, each, on_connection};
use crate::payments::{Charge, Payment};

/// A row of a new payment.
#[derive(Debug, Clone, Copy)]
pub struct NewPayment<'a> {
    pub(crate) brand: &'a str,
    pub(crate) charge: &'a Charge,
    pub(crate) state: &'static str,
    /// Time until which the request to charge counts as on its way, in microseconds.
    pub(crate) until: i64,
    pub(crate) at: i64,
}

/// A new refund.
#[derive(Debug)]
pub(crate) struct NewRefund<'a> {
    pub(crate) refund: RefundId,
    pub(crate) payment: PaymentId,
    pub(crate) amount: i64,
    pub(crate) reason: &'a str,
    pub(crate) automatic: bool,
}

/// A row of a new refund.
#[derive(Debug, Clone, Copy)]
pub struct RefundBegin<'a> {
    pub(crate) new: &'a NewRefund<'a>,
    pub(crate) state: &'static str,
    /// Time when the refund becomes due if it has no outcome by then, in microseconds.
    pub(crate) ask_at: i64,
    pub(crate) at: i64,
    /// Time until which the request to refund counts as on its way, in microseconds.
    pub(crate) until: i64,
}

/// New values of a payment's row.
#[derive(Debug, Clone, Copy)]
pub struct PaymentEnd<'a> {
    pub(crate) payment: Uuid,
    pub(crate) state: &'static str,
    pub(crate) refunded: i64,
    pub(crate) code: Option<&'a str>,
    pub(crate) next_ask_at: Option<i64>,
    pub(crate) concluded_at: Option<i64>,
    pub(crate) confirm_until: i64,
    pub(crate) look_at: Option<i64>,
}

/// New values of a refund's row.
#[derive(Debug, Clone, Copy)]
pub struct RefundEnd<'a> {
    pub(crate) refund: Uuid,
    pub(crate) state: &'static str,
    pub(crate) code: Option<&'a str>,
    pub(crate) next_ask_at: Option<i64>,
    pub(crate) concluded_at: Option<i64>,
    /// The `give_back_until` that was read when the outcome was decided. The row is written only if
    /// this value is unchanged.
    pub(crate) give_back_until: i64,
    /// Time of the next look at a refund that was refused after a doubt.
    pub(crate) look_at: Option<i64>,
}

/// The statements of one transaction.
#[expect(async_fn_in_trait, reason = "every caller names the type of the database")]
pub trait Statements {
    /// Returns the time of the database's clock in microseconds since 1970.
    async fn clock(&mut self) -> Result<i64>;

    /// Locks an order that was placed. Fails if another transaction holds it.
    async fn lock_order(&mut self, order: Uuid) -> Result<Option<OrderRow>>;

    /// Returns the earlier use of a key.
    async fn request(&mut self, key: &[u8]) -> Result<Option<RequestRow>>;

    /// Inserts a request. Returns the number of new rows: 0 if the key exists already.
    async fn add_request(&mut self, key: &[u8], row: RequestRow) -> Result<u64>;

    /// Returns the payment that charges an order or may do so, and its state.
    async fn charging(&mut self, order: Uuid) -> Result<Option<(Uuid, String)>>;

    /// Returns the number of rejected orders with this brand and id.
    async fn was_rejected(&mut self, brand: &str, order: Uuid) -> Result<i64>;

    async fn add_payment(&mut self, row: NewPayment<'_>) -> Result<()>;

    /// Notes that a request to charge is on its way until this time.
    async fn hold(&mut self, payment: Uuid, until: i64) -> Result<()>;

    async fn add_refund(&mut self, row: RefundBegin<'_>) -> Result<()>;

    async fn payment(&mut self, payment: Uuid) -> Result<Option<PaymentRow>>;

    /// Returns the refunds of a payment, the oldest first.
    async fn refunds(&mut self, payment: Uuid) -> Result<Vec<RefundRow>>;

    /// Returns a payment of this brand's order. With a key, the payment is the one of the request
    /// under that key, and `payment` does not matter.
    async fn payment_of(
        &mut self,
        brand: &str,
        order: Uuid,
        payment: Uuid,
        key: Option<&[u8]>,
    ) -> Result<Option<PaymentRow>>;

    /// Returns the number of other payments of the order with the same gateway key.
    async fn beside(&mut self, charge: &Charge) -> Result<i64>;

    /// Returns the key of the request for a payment or for one of its refunds.
    async fn key_of(&mut self, payment: Uuid, refund: Option<Uuid>) -> Result<Option<Vec<u8>>>;

    /// Returns the payments that paid for these orders. An order has at most one.
    async fn charged_of(&mut self, orders: &[Uuid]) -> Result<Vec<Uuid>>;

    async fn set_payment(&mut self, end: PaymentEnd<'_>) -> Result<()>;

    /// Writes a refund. Returns the number of rows: 0 if another agent took the refund after it was
    /// read.
    async fn set_refund(&mut self, end: RefundEnd<'_>) -> Result<u64>;

    /// Takes payments that are due by `now`, and holds them until `until`.
    async fn take_payments(&mut self, now: i64, until: i64, rows_max: i64) -> Result<Vec<DueRow>>;

    /// Takes payments that were given up and are due for a look by `now`, and holds them until
    /// `until`.
    async fn take_given_up(&mut self, now: i64, until: i64, rows_max: i64) -> Result<Vec<DueRow>>;

    /// Takes refunds that are due by `now`, and holds them until `until`. A request for each counts
    /// as on its way until then.
    async fn take_refunds(&mut self, now: i64, until: i64, rows_max: i64) -> Result<Vec<RefundRow>>;

    /// Takes refunds that were refused and are due for a look by `now`, and holds them until
    /// `until`.
    async fn take_refused(&mut self, now: i64, until: i64, rows_max: i64) -> Result<Vec<RefundRow>>;

    /// Sets the time of the next look at a refused refund; `None` ends the looks.
    async fn look_later(&mut self, refund: Uuid, look_at: Option<i64>) -> Result<()>;

    /// Makes a payment of unknown outcome due at `ask_at`, unless it is due earlier. Returns the
    /// number of changed payments.
    async fn hint(&mut self, order: Uuid, ask_at: i64) -> Result<u64>;

    /// Makes a given-up payment due for a look at `ask_at`, as [`Self::hint`] does. Returns the
    /// number of changed payments.
    async fn hint_given_up(&mut self, order: Uuid, ask_at: i64) -> Result<u64>;

    /// Returns the number of unknown outcomes, the start time of the oldest one, and the number of
    /// payments charged late.
    async fn doubt(&mut self) -> Result<DoubtRow>;
}

/// Takes the rows that a statement finds due by `now`, and holds them until `until`.
async fn take<V: AnyRow>(
    transaction: &mut Transaction,
    statement: &Statement,
    now: i64,
    until: i64,
    rows_max: i64,
) -> Result<Vec<V>> {
    let statement = transaction.text(statement);
    on_connection!(transaction, connection =>
        sqlx::query_as(statement).bind(now).bind(until).bind(rows_max).fetch_all(connection).await)
}

impl Statements for Transaction {
    async fn clock(&mut self) -> Result<i64> {
        let statement = self.text(&each!("clock"));
        on_connection!(self, connection =>
            sqlx::query_scalar(statement).fetch_one(connection).await)
    }

    async fn lock_order(&mut self, order: Uuid) -> Result<Option<OrderRow>> {
        let statement = self.text(&each!("lock_order"));
        on_connection!(self, connection =>
            sqlx::query_as(statement).bind(order).fetch_optional(connection).await)
    }

    async fn request(&mut self, key: &[u8]) -> Result<Option<RequestRow>> {
        on_connection!(self, connection =>
            sqlx::query_as(common!("request")).bind(key).fetch_optional(connection).await)
    }

    async fn add_request(&mut self, key: &[u8], row: RequestRow) -> Result<u64> {
        let RequestRow { fingerprint, payment, refund } = row;
        on_connection!(self, connection =>
            sqlx::query(common!("add_request")).bind(key).bind(fingerprint).bind(payment).bind(refund)
                .execute(connection).await.map(|added| added.rows_affected()))
    }

    async fn charging(&mut self, order: Uuid) -> Result<Option<(Uuid, String)>> {
        on_connection!(self, connection =>
            sqlx::query_as(common!("charging")).bind(order).fetch_optional(connection).await)
    }

    async fn was_rejected(&mut self, brand: &str, order: Uuid) -> Result<i64> {
        on_connection!(self, connection =>
            sqlx::query_scalar(common!("was_rejected")).bind(brand).bind(order).fetch_one(connection).await)
    }

    async fn add_payment(&mut self, row: NewPayment<'_>) -> Result<()> {
        let NewPayment { brand, charge, state, until, at } = row;
        on_connection!(self, connection =>
            sqlx::query(common!("add_payment"))
                .bind(charge.payment.as_uuid())
                .bind(brand)
                .bind(charge.order.as_uuid())
                .bind(charge.amount.amount())
                .bind(charge.amount.currency().as_str())
                .bind(charge.payment_key.as_str())
                .bind(state)
                .bind(until)
                .bind(at)
                .execute(connection).await.map(drop))
    }

    async fn hold(&mut self, payment: Uuid, until: i64) -> Result<()> {
        on_connection!(self, connection =>
            sqlx::query(common!("hold")).bind(payment).bind(until).execute(connection).await.map(drop))
    }

    async fn add_refund(&mut self, row: RefundBegin<'_>) -> Result<()> {
        let RefundBegin { new, state, ask_at, at, until } = row;
        on_connection!(self, connection =>
            sqlx::query(common!("add_refund"))
                .bind(new.refund.as_uuid())
                .bind(new.payment.as_uuid())
                .bind(new.amount)
                .bind(new.reason)
                .bind(new.automatic)
                .bind(state)
                .bind(ask_at)
                .bind(at)
                .bind(until)
                .execute(connection).await.map(drop))
    }

    async fn payment(&mut self, payment: Uuid) -> Result<Option<PaymentRow>> {
        on_connection!(self, connection =>
            sqlx::query_as(common!("payment")).bind(payment).fetch_optional(connection).await)
    }

    async fn refunds(&mut self, payment: Uuid) -> Result<Vec<RefundRow>> {
        on_connection!(self, connection =>
            sqlx::query_as(common!("refunds")).bind(payment).fetch_all(connection).await)
    }

    async fn payment_of(
        &mut self,
        brand: &str,
        order: Uuid,
        payment: Uuid,
        key: Option<&[u8]>,
    ) -> Result<Option<PaymentRow>> {
        on_connection!(self, connection =>
            sqlx::query_as(common!("payment_of")).bind(brand).bind(order).bind(payment).bind(key)
                .fetch_optional(connection).await)
    }

    async fn beside(&mut self, charge: &Charge) -> Result<i64> {
        on_connection!(self, connection =>
            sqlx::query_scalar(common!("beside"))
                .bind(charge.order.as_uuid()).bind(charge.payment_key.as_str()).bind(charge.payment.as_uuid())
                .fetch_one(connection).await)
    }

    async fn key_of(&mut self, payment: Uuid, refund: Option<Uuid>) -> Result<Option<Vec<u8>>> {
        on_connection!(self, connection =>
            sqlx::query_scalar(common!("key_of")).bind(payment).bind(refund).fetch_optional(connection).await)
    }

    async fn charged_of(&mut self, orders: &[Uuid]) -> Result<Vec<Uuid>> {
        let orders = orders.iter().map(|order| order.simple().to_string());
        let (orders, sql) =
            (serde_json::Value::from_iter(orders).to_string(), self.text(&each!("charged_of")));
        on_connection!(self, connection => sqlx::query_scalar(sql).bind(orders).fetch_all(connection).await)
    }

    async fn set_payment(&mut self, end: PaymentEnd<'_>) -> Result<()> {
        on_connection!(self, connection =>
            sqlx::query(common!("set_payment"))
                .bind(end.payment)
                .bind(end.state)
                .bind(end.refunded)
                .bind(end.code)
                .bind(end.next_ask_at)
                .bind(end.concluded_at)
                .bind(end.confirm_until)
                .bind(end.look_at)
                .execute(connection).await.map(drop))
    }

    async fn set_refund(&mut self, end: RefundEnd<'_>) -> Result<u64> {
        on_connection!(self, connection =>
            sqlx::query(common!("set_refund"))
                .bind(end.refund)
                .bind(end.state)
                .bind(end.code)
                .bind(end.next_ask_at)
                .bind(end.concluded_at)
                .bind(end.give_back_until)
                .bind(end.look_at)
                .execute(connection).await.map(|set| set.rows_affected()))
    }

    async fn take_payments(&mut self, now: i64, until: i64, rows_max: i64) -> Result<Vec<DueRow>> {
        take(self, &each!("take_payments"), now, until, rows_max).await
    }

    async fn take_given_up(&mut self, now: i64, until: i64, rows_max: i64) -> Result<Vec<DueRow>> {
        take(self, &each!("take_given_up"), now, until, rows_max).await
    }

    async fn take_refunds(&mut self, now: i64, until: i64, rows_max: i64) -> Result<Vec<RefundRow>> {
        take(self, &each!("take_refunds"), now, until, rows_max).await
    }

    async fn take_refused(&mut self, now: i64, until: i64, rows_max: i64) -> Result<Vec<RefundRow>> {
        take(self, &each!("take_refused"), now, until, rows_max).await
    }

    async fn look_later(&mut self, refund: Uuid, look_at: Option<i64>) -> Result<()> {
        on_connection!(self, connection =>
            sqlx::query(common!("look_later")).bind(refund).bind(look_at)
                .execute(connection).await.map(drop))
    }

    async fn hint(&mut self, order: Uuid, ask_at: i64) -> Result<u64> {
        on_connection!(self, connection =>
            sqlx::query(common!("hint")).bind(order).bind(ask_at)
                .execute(connection).await.map(|hinted| hinted.rows_affected()))
    }

    async fn hint_given_up(&mut self, order: Uuid, ask_at: i64) -> Result<u64> {
        on_connection!(self, connection =>
            sqlx::query(common!("hint_given_up")).bind(order).bind(ask_at)
                .execute(connection).await.map(|hinted| hinted.rows_affected()))
    }

    async fn doubt(&mut self) -> Result<DoubtRow> {
        on_connection!(self, connection =>
            sqlx::query_as(common!("doubt")).fetch_one(connection).await)
    }
}

/// The row of an order, under its lock.
pub(super) struct Order {
    pub(super) brand: String,
    pub(super) placed: bool,
    pub(super) currency: String,
    pub(super) total: i64,
}

/// Returns the time of the database's clock. A payment's age is always judged by it, because the
/// clocks of two agents may differ.
pub(super) async fn clock(tx: &mut impl Statements) -> Result<UnixMicros, LedgerError> {
    Ok(UnixMicros::new(tx.clock().await?))
}

/// Locks an order. Returns `None` if no such order was placed.
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

/// Locks an order and returns its payment, and true if the order is placed and not cancelled.
pub(super) async fn locked(
    tx: &mut impl Statements,
    order: OrderId,
    id: PaymentId,
) -> Result<(Payment, bool), LedgerError> {
    let order = lock_order(tx, order).await?;
    Ok((found(tx, id).await?, order.is_some_and(|order| order.placed)))
}

/// Returns a payment that must exist.
pub(super) async fn found(tx: &mut impl Statements, id: PaymentId) -> Result<Payment, LedgerError> {
    let missing = LedgerError::Corrupt { table: "payments", what: "a missing payment" };
    payment(tx, id).await?.ok_or(missing)
}

/// Returns a payment with its refunds.
pub(super) async fn payment(
    tx: &mut impl Statements,
    payment: PaymentId,
) -> Result<Option<Payment>, LedgerError> {
    match tx.payment(payment.as_uuid()).await? {
        Some(row) => with_refunds(tx, read_payment(&row)?).await.map(Some),
        None => Ok(None),
    }
}

/// Reads a payment's refunds into it.
pub(super) async fn with_refunds(
    tx: &mut impl Statements,
    mut payment: Payment,
) -> Result<Payment, LedgerError> {
    let rows = tx.refunds(payment.charge.payment.as_uuid()).await?;
    payment.refunds =
        rows.into_iter().map(|row| read_refund(row).map(|(_, refund)| refund)).collect::<Result<_, _>>()?;
    Ok(payment)
}
