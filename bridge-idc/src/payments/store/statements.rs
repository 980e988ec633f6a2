//! What the flow of payments asks of a database: the statements of one transaction, named for what they do, and what is found by
//! them behind an order's lock. They decide nothing.
//!
//! The files in `common/`, `postgres/` and `sqlite/` are those statements; the simulation answers them from a model.

use bridge_protocol::domain::{OrderId, PaymentId, RefundId, UnixMicros};
use sqlx::Result;
use uuid::Uuid;

use super::rows::{DoubtRow, DueRow, OrderRow, PaymentRow, RefundRow, RequestRow, read_payment, read_refund};
use crate::database::{AnyRow, LedgerError, Statement, Transaction, common, each, on_connection};
use crate::payments::{Charge, Payment};

/// A payment's row to be inserted.
#[derive(Debug, Clone, Copy)]
pub struct NewPayment<'a> {
    pub(crate) brand: &'a str,
    pub(crate) charge: &'a Charge,
    pub(crate) state: &'static str,
    /// Until when the gateway is being asked to charge.
    pub(crate) until: i64,
    pub(crate) at: i64,
}

/// A refund that is asked for.
#[derive(Debug)]
pub(crate) struct NewRefund<'a> {
    pub(crate) refund: RefundId,
    pub(crate) payment: PaymentId,
    pub(crate) amount: i64,
    pub(crate) reason: &'a str,
    pub(crate) automatic: bool,
}

/// A refund's row to be inserted.
#[derive(Debug, Clone, Copy)]
pub struct RefundBegin<'a> {
    pub(crate) new: &'a NewRefund<'a>,
    pub(crate) state: &'static str,
    /// When it is due, unless it is concluded before.
    pub(crate) ask_at: i64,
    pub(crate) at: i64,
    /// Until when a request for it is on its way.
    pub(crate) until: i64,
}

/// What a payment's row comes to.
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

/// What a refund's row comes to.
#[derive(Debug, Clone, Copy)]
pub struct RefundEnd<'a> {
    pub(crate) refund: Uuid,
    pub(crate) state: &'static str,
    pub(crate) code: Option<&'a str>,
    pub(crate) next_ask_at: Option<i64>,
    pub(crate) concluded_at: Option<i64>,
    /// As it was read: what it comes to was decided by that.
    pub(crate) give_back_until: i64,
    /// When it is looked at, if it was refused after a doubt.
    pub(crate) look_at: Option<i64>,
}

/// The statements of one transaction.
#[expect(async_fn_in_trait, reason = "whoever calls it knows which database it is on")]
pub trait Statements {
    /// The database's clock: microseconds since 1970.
    async fn clock(&mut self) -> Result<i64>;

    /// Locks an order that was placed, or fails if somebody else holds it.
    async fn lock_order(&mut self, order: Uuid) -> Result<Option<OrderRow>>;

    /// What a key was used for.
    async fn request(&mut self, key: &[u8]) -> Result<Option<RequestRow>>;

    /// Returns how many rows were new: none if the key is there already.
    async fn add_request(&mut self, key: &[u8], row: RequestRow) -> Result<u64>;

    /// The payment that an order is, or may be, charged by, and its state.
    async fn charging(&mut self, order: Uuid) -> Result<Option<(Uuid, String)>>;

    /// How many orders of this brand and id were decided and not placed.
    async fn was_rejected(&mut self, brand: &str, order: Uuid) -> Result<i64>;

    async fn add_payment(&mut self, row: NewPayment<'_>) -> Result<()>;

    /// A request to charge is on its way until then.
    async fn hold(&mut self, payment: Uuid, until: i64) -> Result<()>;

    async fn add_refund(&mut self, row: RefundBegin<'_>) -> Result<()>;

    async fn payment(&mut self, payment: Uuid) -> Result<Option<PaymentRow>>;

    /// The refunds of a payment, the oldest first.
    async fn refunds(&mut self, payment: Uuid) -> Result<Vec<RefundRow>>;

    /// A payment of this brand's order; with a key, the one that was asked for under it, whatever its id.
    async fn payment_of(
        &mut self,
        brand: &str,
        order: Uuid,
        payment: Uuid,
        key: Option<&[u8]>,
    ) -> Result<Option<PaymentRow>>;

    /// How many other payments of the order the gateway knows by the same token.
    async fn beside(&mut self, charge: &Charge) -> Result<i64>;

    /// The key that a payment, or one of its refunds, was asked for under.
    async fn key_of(&mut self, payment: Uuid, refund: Option<Uuid>) -> Result<Option<Vec<u8>>>;

    /// The payment of an order that moved money which pays for it.
    async fn charged_of(&mut self, order: Uuid) -> Result<Option<Uuid>>;

    async fn set_payment(&mut self, end: PaymentEnd<'_>) -> Result<()>;

    /// Returns how many rows were written: none if somebody has taken it since it was read.
    async fn set_refund(&mut self, end: RefundEnd<'_>) -> Result<u64>;

    /// Takes payments that are due by `now`, until `until`.
    async fn take_payments(&mut self, now: i64, until: i64, rows_max: i64) -> Result<Vec<DueRow>>;

    /// Takes payments that were given up and are to be looked at by `now`, until `until`.
    async fn take_given_up(&mut self, now: i64, until: i64, rows_max: i64) -> Result<Vec<DueRow>>;

    /// Takes refunds that are due by `now`, until `until`: so long a request for each is on its way.
    async fn take_refunds(&mut self, now: i64, until: i64, rows_max: i64) -> Result<Vec<RefundRow>>;

    /// Takes refunds that were refused and are to be looked at by `now`, until `until`.
    async fn take_refused(&mut self, now: i64, until: i64, rows_max: i64) -> Result<Vec<RefundRow>>;

    /// A refund that was refused is looked at again then, or not any more.
    async fn look_later(&mut self, refund: Uuid, look_at: Option<i64>) -> Result<()>;

    /// Lets a payment in doubt be asked about then, unless that is sooner already; returns how many there are.
    async fn hint(&mut self, order: Uuid, ask_at: i64) -> Result<u64>;

    /// As [`Self::hint`], about payments that were given up.
    async fn hint_given_up(&mut self, order: Uuid, ask_at: i64) -> Result<u64>;

    /// How many payments and refunds are in doubt, since when the oldest is, and how many payments were charged late.
    async fn doubt(&mut self) -> Result<DoubtRow>;
}

/// Takes the rows that a statement finds due by `now`, until `until`.
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

    async fn charged_of(&mut self, order: Uuid) -> Result<Option<Uuid>> {
        on_connection!(self, connection =>
            sqlx::query_scalar(common!("charged_of")).bind(order).fetch_optional(connection).await)
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
