//! Begins charges and refunds: every rule in one transaction behind the order's lock, and the attempt durable at its end.

use std::time::Duration;

use bridge_protocol::domain::{
    KeyDigest, OrderId, PaymentId, PaymentState, RefundId, RefundState, UnixMicros,
};
use bridge_protocol::wire::order::Refusal;
use uuid::Uuid;

use super::rows::{clock, lock_order, locked, payment};
use super::{Begun, BegunRefund, Ledger, LedgerError, NotDone, Tx, common, in_transaction, on_connection};
use crate::payment::{PayAsked, Payment, Refund, RefundAsked};

/// A row for `refunds`.
pub(in crate::ledger) struct NewRefund<'a> {
    pub(in crate::ledger) refund: RefundId,
    pub(in crate::ledger) payment: PaymentId,
    pub(in crate::ledger) amount: i64,
    pub(in crate::ledger) reason: &'a str,
    pub(in crate::ledger) automatic: bool,
}

impl Ledger {
    /// Takes a request to charge for an order: refused, known, or durable as `confirming`. For so long the request to the
    /// gateway counts as on its way; should nobody conclude it before, it is asked about then.
    pub async fn begin_payment(&self, asked: &PayAsked, hold: Duration) -> Result<Begun<Payment>, NotDone> {
        in_transaction!(self, writing tx => begin_payment(&mut tx, asked, hold).await)
    }

    /// Before a gateway is asked to charge once more: the payment as it stands while that request is on its way, for so long.
    /// `None` if it may not be asked: it is known what became of it, its order does not stand, or another request is on its
    /// way.
    pub async fn begin_again(
        &self,
        order: OrderId,
        id: PaymentId,
        hold: Duration,
    ) -> Result<Option<Payment>, NotDone> {
        in_transaction!(self, writing tx => begin_again(&mut tx, order, id, hold).await)
    }

    /// Takes a request to give back: refused, known, or durable and to be asked for again after so long.
    pub async fn begin_refund(
        &self,
        asked: &RefundAsked,
        hold: Duration,
    ) -> Result<Begun<BegunRefund>, NotDone> {
        in_transaction!(self, writing tx => begin_refund(&mut tx, asked, hold).await)
    }
}

async fn begin_payment(
    tx: &mut Tx<'_>,
    asked: &PayAsked,
    hold: Duration,
) -> Result<Begun<Payment>, LedgerError> {
    let charge = &asked.charge;
    let order = lock_order(tx, charge.order).await?;
    match earlier(tx, asked.key, &asked.fingerprint).await? {
        Earlier::None => {}
        Earlier::Same(id, None) => return known(tx, id).await.map(Begun::Known),
        Earlier::Same(_, Some(_)) | Earlier::Other => return Ok(Begun::Refused(Refusal::KeyReused)),
    }
    let Some(order) = order.filter(|order| order.brand == asked.brand.as_str()) else {
        return Ok(Begun::Refused(refusal_without_order(tx, asked.brand.as_str(), charge.order).await?));
    };
    if !order.placed {
        return Ok(Begun::Refused(Refusal::OrderNotPayable));
    }
    // Whoever pays a second time is told so, rather than that the amount is another.
    if let Some(state) = charging(tx, charge.order).await? {
        return Ok(Begun::Refused(match state {
            // The gateway knows the order as one that was charged, and charges it no second time.
            late if late.is_late() => Refusal::OrderNotPayable,
            charged if charged.is_charged() => Refusal::AlreadyPaid,
            _ => Refusal::PaymentInProgress,
        }));
    }
    if order.total == 0 {
        return Ok(Begun::Refused(Refusal::OrderNotPayable));
    }
    if (charge.amount.amount(), charge.amount.currency().as_str()) != (order.total, order.currency.as_str()) {
        return Ok(Begun::Refused(Refusal::WrongAmount));
    }
    add_request(tx, asked.key, &asked.fingerprint, charge.payment, None).await?;
    let at = clock(tx).await?;
    let until = at.plus(hold);
    on_connection!(tx, connection =>
        sqlx::query(common!("add_payment"))
            .bind(charge.payment.as_uuid())
            .bind(asked.brand.as_str())
            .bind(charge.order.as_uuid())
            .bind(charge.amount.amount())
            .bind(charge.amount.currency().as_str())
            .bind(charge.payment_key.as_str())
            .bind(PaymentState::Confirming.code())
            .bind(until.get())
            .bind(at.get())
            .execute(connection).await.map(drop)?);
    Ok(Begun::New(Payment {
        brand: asked.brand.clone(),
        charge: charge.clone(),
        state: PaymentState::Confirming,
        refunded: 0,
        code: None,
        asks: 0,
        created_at: at,
        concluded_at: None,
        confirm_until: until,
        refunds: Vec::new(),
    }))
}

async fn begin_again(
    tx: &mut Tx<'_>,
    order: OrderId,
    id: PaymentId,
    hold: Duration,
) -> Result<Option<Payment>, LedgerError> {
    let (mut payment, order_stands) = locked(tx, order, id).await?;
    let now = clock(tx).await?;
    if !payment.state.is_open() || !order_stands || payment.confirm_until > now {
        return Ok(None);
    }
    payment.confirm_until = now.plus(hold);
    on_connection!(tx, connection =>
        sqlx::query(common!("hold")).bind(id.as_uuid()).bind(payment.confirm_until.get())
            .execute(connection).await.map(drop)?);
    Ok(Some(payment))
}

async fn begin_refund(
    tx: &mut Tx<'_>,
    asked: &RefundAsked,
    hold: Duration,
) -> Result<Begun<BegunRefund>, LedgerError> {
    let order = lock_order(tx, asked.order).await?;
    match earlier(tx, asked.key, &asked.fingerprint).await? {
        Earlier::None => {}
        Earlier::Same(id, Some(refund)) => return Ok(Begun::Known((known(tx, id).await?, refund))),
        Earlier::Same(_, None) | Earlier::Other => return Ok(Begun::Refused(Refusal::KeyReused)),
    }
    let found = match order.filter(|order| order.brand == asked.brand.as_str()) {
        Some(_) => payment(tx, asked.payment).await?,
        None => None,
    };
    let Some(mut payment) = found.filter(|payment| payment.charge.order == asked.order) else {
        return Ok(Begun::Refused(Refusal::NotFound));
    };
    if payment.state.is_open() {
        return Ok(Begun::Refused(Refusal::PaymentInProgress));
    }
    let same_currency = asked.amount.currency() == payment.charge.amount.currency();
    if !same_currency || asked.amount.amount() > payment.left() {
        return Ok(Begun::Refused(Refusal::RefundTooLarge));
    }
    add_request(tx, asked.key, &asked.fingerprint, asked.payment, Some(asked.refund)).await?;
    let new = NewRefund {
        refund: asked.refund,
        payment: asked.payment,
        amount: asked.amount.amount(),
        reason: &asked.reason,
        automatic: false,
    };
    let at = clock(tx).await?;
    payment.refunds.push(add_refund(tx, &new, at, at.plus(hold)).await?);
    Ok(Begun::New((payment, asked.refund)))
}

/// Inserts a refund that is to be asked for.
pub(super) async fn add_refund(
    tx: &mut Tx<'_>,
    new: &NewRefund<'_>,
    at: UnixMicros,
    ask_at: UnixMicros,
) -> Result<Refund, LedgerError> {
    on_connection!(tx, connection =>
        sqlx::query(common!("add_refund"))
            .bind(new.refund.as_uuid())
            .bind(new.payment.as_uuid())
            .bind(new.amount)
            .bind(new.reason)
            .bind(new.automatic)
            .bind(RefundState::Confirming.code())
            .bind(ask_at.get())
            .bind(at.get())
            .execute(connection).await.map(drop)?);
    Ok(Refund {
        refund: new.refund,
        amount: new.amount,
        reason: new.reason.to_owned(),
        automatic: new.automatic,
        state: RefundState::Confirming,
        code: None,
        asks: 0,
        created_at: at,
    })
}

/// What a key was used for.
enum Earlier {
    None,
    /// The same request: its payment, and the refund that it asked for.
    Same(PaymentId, Option<RefundId>),
    Other,
}

async fn earlier(tx: &mut Tx<'_>, key: KeyDigest, fingerprint: &[u8; 32]) -> Result<Earlier, LedgerError> {
    type Row = (Vec<u8>, Uuid, Option<Uuid>);
    let found: Option<Row> = on_connection!(tx, connection =>
        sqlx::query_as(common!("request")).bind(key.as_bytes().as_slice()).fetch_optional(connection).await?);
    let Some((used_for, payment, refund)) = found else { return Ok(Earlier::None) };
    if used_for != fingerprint {
        return Ok(Earlier::Other);
    }
    let corrupt = |_| LedgerError::Corrupt { table: "payment_requests", what: "an id that is no UUIDv7" };
    let refund = refund.map(RefundId::from_uuid).transpose().map_err(corrupt)?;
    Ok(Earlier::Same(PaymentId::from_uuid(payment).map_err(corrupt)?, refund))
}

async fn known(tx: &mut Tx<'_>, id: PaymentId) -> Result<Payment, LedgerError> {
    let missing = LedgerError::Corrupt { table: "payment_requests", what: "a payment that is not there" };
    payment(tx, id).await?.ok_or(missing)
}

async fn charging(tx: &mut Tx<'_>, order: OrderId) -> Result<Option<PaymentState>, LedgerError> {
    let state: Option<String> = on_connection!(tx, connection =>
        sqlx::query_scalar(common!("charging")).bind(order.as_uuid()).fetch_optional(connection).await?);
    let Some(state) = state else { return Ok(None) };
    let unknown = LedgerError::Corrupt { table: "payments", what: "an unknown state" };
    PaymentState::from_code(&state).map(Some).ok_or(unknown)
}

async fn add_request(
    tx: &mut Tx<'_>,
    key: KeyDigest,
    fingerprint: &[u8; 32],
    payment: PaymentId,
    refund: Option<RefundId>,
) -> Result<(), LedgerError> {
    let added = on_connection!(tx, connection =>
        sqlx::query(common!("add_request"))
            .bind(key.as_bytes().as_slice())
            .bind(fingerprint.as_slice())
            .bind(payment.as_uuid())
            .bind(refund.map(|refund| refund.as_uuid()))
            .execute(connection).await?.rows_affected());
    // Another order's request under this key was faster: the next try finds it.
    if added == 1 { Ok(()) } else { Err(LedgerError::Conflict) }
}

/// Why an order that is not there, or another brand's, cannot be paid.
async fn refusal_without_order(tx: &mut Tx<'_>, brand: &str, order: OrderId) -> Result<Refusal, LedgerError> {
    let rejected: i64 = on_connection!(tx, connection =>
        sqlx::query_scalar(common!("was_rejected"))
            .bind(brand).bind(order.as_uuid()).fetch_one(connection).await?);
    Ok(if rejected > 0 { Refusal::OrderNotPayable } else { Refusal::NotFound })
}
