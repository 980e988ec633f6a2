//! The start of charges and refunds: one transaction checks every rule under the order's lock, and
//! makes the request durable.

use std::time::Duration;

use bridge_protocol::domain::{
    KeyDigest, OrderId, PaymentId, PaymentState, RefundId, RefundState, UnixMicros,
};
use bridge_protocol::wire::order::Refusal;

use super::rows::RequestRow;
use super::statements::{NewPayment, NewRefund, RefundBegin, Statements, clock, lock_order, locked, payment};
use super::{Begun, BegunRefund};
use crate::database::LedgerError;
use crate::payments::{ChargeRequest, GiveBackRequest, Payment, Refund};

pub(super) async fn begin_payment(
    tx: &mut impl Statements,
    asked: &ChargeRequest,
    hold: Duration,
) -> Result<Begun<Payment>, LedgerError> {
    let charge = &asked.charge;
    let order = lock_order(tx, charge.order).await?;
    match earlier(tx, asked.key, &asked.fingerprint).await? {
        EarlierUse::None => {}
        EarlierUse::Same(id, None) => return known(tx, id).await.map(Begun::Known),
        EarlierUse::Same(_, Some(_)) | EarlierUse::Other => return Ok(Begun::Refused(Refusal::KeyReused)),
    }
    let Some(order) = order.filter(|order| order.brand == asked.brand.as_str()) else {
        return Ok(Begun::Refused(refusal_without_order(tx, asked.brand.as_str(), charge.order).await?));
    };
    if !order.placed {
        return Ok(Begun::Refused(Refusal::OrderNotPayable));
    }
    // This check comes before that of the amount, so a second payment is refused as such.
    if let Some((payment, state)) = charging(tx, charge.order).await? {
        return Ok(match state {
            // The gateway has charged this order once, and does not charge it again.
            late if late.is_late() => Begun::Refused(Refusal::OrderNotPayable),
            charged if charged.is_charged() => Begun::InTheWay(Refusal::AlreadyPaid, payment),
            _ => Begun::InTheWay(Refusal::PaymentInProgress, payment),
        });
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
    let state = PaymentState::Confirming.code();
    let row = NewPayment { brand: asked.brand.as_str(), charge, state, until: until.get(), at: at.get() };
    tx.add_payment(row).await?;
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

pub(super) async fn begin_again(
    tx: &mut impl Statements,
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
    tx.hold(id.as_uuid(), payment.confirm_until.get()).await?;
    Ok(Some(payment))
}

pub(super) async fn begin_refund(
    tx: &mut impl Statements,
    asked: &GiveBackRequest,
    hold: Duration,
) -> Result<Begun<BegunRefund>, LedgerError> {
    let order = lock_order(tx, asked.order).await?;
    match earlier(tx, asked.key, &asked.fingerprint).await? {
        EarlierUse::None => {}
        EarlierUse::Same(id, Some(refund)) => return Ok(Begun::Known((known(tx, id).await?, refund))),
        EarlierUse::Same(_, None) | EarlierUse::Other => return Ok(Begun::Refused(Refusal::KeyReused)),
    }
    let found = match order.filter(|order| order.brand == asked.brand.as_str()) {
        Some(_) => payment(tx, asked.payment).await?,
        None => None,
    };
    let Some(mut payment) = found.filter(|payment| payment.charge.order == asked.order) else {
        return Ok(Begun::Refused(Refusal::NotFound));
    };
    if payment.state.is_open() {
        return Ok(Begun::InTheWay(Refusal::PaymentInProgress, asked.payment));
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
    payment.refunds.push(add_refund(tx, &new, at, Some(hold)).await?);
    Ok(Begun::New((payment, asked.refund)))
}

/// Inserts a refund. With `hold`, its caller asks the gateway for it within that time. Without, the
/// refund is due at once.
pub(super) async fn add_refund(
    tx: &mut impl Statements,
    new: &NewRefund<'_>,
    at: UnixMicros,
    hold: Option<Duration>,
) -> Result<Refund, LedgerError> {
    let ask_at = at.plus(hold.unwrap_or_default());
    let give_back_until = hold.map_or(UnixMicros::new(0), |_| ask_at);
    let state = RefundState::Confirming.code();
    let (ask_at, at_micros, until) = (ask_at.get(), at.get(), give_back_until.get());
    tx.add_refund(RefundBegin { new, state, ask_at, at: at_micros, until }).await?;
    Ok(Refund {
        refund: new.refund,
        amount: new.amount,
        reason: new.reason.to_owned(),
        automatic: new.automatic,
        state: RefundState::Confirming,
        code: None,
        asks: 0,
        created_at: at,
        give_back_until,
        concluded_at: None,
    })
}

/// Earlier use of a key.
enum EarlierUse {
    None,
    /// The same request, with its payment and refund.
    Same(PaymentId, Option<RefundId>),
    Other,
}

async fn earlier(
    tx: &mut impl Statements,
    key: KeyDigest,
    fingerprint: &[u8; 32],
) -> Result<EarlierUse, LedgerError> {
    let Some(RequestRow { fingerprint: used_for, payment, refund }) = tx.request(key.as_bytes()).await?
    else {
        return Ok(EarlierUse::None);
    };
    if used_for != fingerprint {
        return Ok(EarlierUse::Other);
    }
    let corrupt = |_| LedgerError::Corrupt { table: "payment_requests", what: "an id that is not a UUIDv7" };
    let refund = refund.map(RefundId::from_uuid).transpose().map_err(corrupt)?;
    Ok(EarlierUse::Same(PaymentId::from_uuid(payment).map_err(corrupt)?, refund))
}

async fn known(tx: &mut impl Statements, id: PaymentId) -> Result<Payment, LedgerError> {
    let missing = LedgerError::Corrupt { table: "payment_requests", what: "a missing payment" };
    payment(tx, id).await?.ok_or(missing)
}

/// Returns the payment that charges an order or may do so, and its state.
async fn charging(
    tx: &mut impl Statements,
    order: OrderId,
) -> Result<Option<(PaymentId, PaymentState)>, LedgerError> {
    let Some((payment, state)) = tx.charging(order.as_uuid()).await? else { return Ok(None) };
    let corrupt = |what| LedgerError::Corrupt { table: "payments", what };
    let payment = PaymentId::from_uuid(payment).map_err(|_| corrupt("an id that is not a UUIDv7"))?;
    let state = PaymentState::from_code(&state).ok_or_else(|| corrupt("an unknown state"))?;
    Ok(Some((payment, state)))
}

async fn add_request(
    tx: &mut impl Statements,
    key: KeyDigest,
    fingerprint: &[u8; 32],
    payment: PaymentId,
    refund: Option<RefundId>,
) -> Result<(), LedgerError> {
    let row = RequestRow {
        fingerprint: fingerprint.to_vec(),
        payment: payment.as_uuid(),
        refund: refund.map(|refund| refund.as_uuid()),
    };
    let added = tx.add_request(key.as_bytes(), row).await?;
    // A request for another order under this key was faster. The next try finds it.
    if added == 1 { Ok(()) } else { Err(LedgerError::Conflict) }
}

/// Returns the refusal for an order that is unknown or belongs to another brand.
async fn refusal_without_order(
    tx: &mut impl Statements,
    brand: &str,
    order: OrderId,
) -> Result<Refusal, LedgerError> {
    let rejected = tx.was_rejected(brand, order.as_uuid()).await?;
    Ok(if rejected > 0 { Refusal::OrderNotPayable } else { Refusal::NotFound })
}
