//! What the gateway's answers come to: the state table applied behind the order's lock, and money for a cancelled order
//! sent back.
//!
//! What is concluded with nobody waiting for it is in the audit log before it is committed, so that there is no moment in
//! which the ledger tells what the log does not have. If the commit then fails it is concluded, and logged, once more.

use bridge_protocol::domain::payment::PaymentEvent;
use bridge_protocol::domain::{
    KeyDigest, OrderId, PaymentId, PaymentState, ReasonCode, RefundId, RefundState, UnixMicros,
};
use bridge_protocol::seal::sealing::Header;
use uuid::Uuid;

use super::begin::{NewRefund, add_refund};
use super::rows::{lock_order, payment};
use super::{Ledger, LedgerError, NotDone, Tx, common, in_transaction, on_connection};
use crate::payment::audit::Witness;
use crate::payment::{Payment, Refund};

/// Why money goes back that nobody asked for.
const CANCELLED: &str = "the order was cancelled";

/// What was told about a payment or a refund, by a gateway or by an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It was done: charged, or given back.
    Done,
    /// It was not, and will not be.
    Refused(ReasonCode),
    /// Nothing that proves anything; it is to be asked about again at that time.
    Nothing {
        /// When.
        ask_at: UnixMicros,
    },
}

/// What an operator says of money that nobody could tell about.
#[derive(Debug, Clone, Copy)]
pub struct Verdict<'reason> {
    /// Whether it moved.
    pub moved: bool,
    /// Why that is known.
    pub reason: &'reason ReasonCode,
}

impl Ledger {
    /// Writes what was told about a payment; how it stands now. What contradicts what is known changes nothing.
    pub async fn conclude_payment(
        &self,
        order: OrderId,
        id: PaymentId,
        told: &Told,
        at: UnixMicros,
        witness: Witness<'_>,
    ) -> Result<Payment, NotDone> {
        in_transaction!(self, writing tx => conclude_payment(&mut tx, order, id, told, at, witness).await)
    }

    /// Ends the doubt about a payment by an operator's word, and keeps the reason. `None` if it is not unknown (any more).
    pub async fn resolve_payment(
        &self,
        order: OrderId,
        id: PaymentId,
        verdict: Verdict<'_>,
        at: UnixMicros,
        witness: Witness<'_>,
    ) -> Result<Option<Payment>, NotDone> {
        in_transaction!(self, writing tx => resolve_payment(&mut tx, order, id, verdict, at, witness).await)
    }

    /// As [`Self::resolve_payment`], about a refund: whether the money went back.
    pub async fn resolve_refund(
        &self,
        order: OrderId,
        id: PaymentId,
        refund: RefundId,
        verdict: Verdict<'_>,
        at: UnixMicros,
        witness: Witness<'_>,
    ) -> Result<Option<Payment>, NotDone> {
        in_transaction!(self, writing tx => resolve_refund(&mut tx, order, id, refund, verdict, at, witness).await)
    }

    /// Writes what was told about a refund; how its payment stands now.
    pub async fn conclude_refund(
        &self,
        order: OrderId,
        id: PaymentId,
        refund: RefundId,
        told: &Told,
        at: UnixMicros,
        witness: Witness<'_>,
    ) -> Result<Payment, NotDone> {
        in_transaction!(self, writing tx => conclude_refund(&mut tx, order, id, refund, told, at, witness).await)
    }
}

async fn conclude_payment(
    tx: &mut Tx<'_>,
    order: OrderId,
    id: PaymentId,
    told: &Told,
    at: UnixMicros,
    witness: Witness<'_>,
) -> Result<Payment, LedgerError> {
    let (mut payment, order_stands) = locked(tx, order, id).await?;
    let (event, code, ask_at) = match told {
        Told::Done => (PaymentEvent::Charged, None, None),
        Told::Refused(code) => (PaymentEvent::Refused, Some(code), None),
        Told::Nothing { ask_at } => (PaymentEvent::Doubtful, None, Some(*ask_at)),
    };
    let before = payment.state;
    match before.after(event) {
        Some(after) if before.is_open() => payment.state = after,
        Some(_) => return Ok(payment),
        None => {
            if event != PaymentEvent::Doubtful {
                tracing::error!(payment = %id, state = before.code(), ?event, "what is told of a payment contradicts what is known");
            }
            return Ok(payment);
        }
    }
    payment.code = code.cloned().or(payment.code);
    write(tx, &mut payment, ask_at, order_stands, at).await?;
    if !payment.state.is_open() {
        witnessed(tx, &payment, None, payment.state.code(), witness).await?;
    }
    Ok(payment)
}

async fn resolve_payment(
    tx: &mut Tx<'_>,
    order: OrderId,
    id: PaymentId,
    verdict: Verdict<'_>,
    at: UnixMicros,
    witness: Witness<'_>,
) -> Result<Option<Payment>, LedgerError> {
    let (mut payment, order_stands) = locked(tx, order, id).await?;
    let event = if verdict.moved { PaymentEvent::Charged } else { PaymentEvent::Refused };
    match payment.state.after(event) {
        Some(after) if payment.state == PaymentState::Unknown => payment.state = after,
        _ => return Ok(None),
    }
    payment.code = Some(verdict.reason.clone());
    write(tx, &mut payment, None, order_stands, at).await?;
    witnessed(tx, &payment, None, payment.state.code(), witness).await?;
    Ok(Some(payment))
}

/// Writes a payment's new state. Money that moved for an order that does not stand goes back.
async fn write(
    tx: &mut Tx<'_>,
    payment: &mut Payment,
    ask_at: Option<UnixMicros>,
    order_stands: bool,
    at: UnixMicros,
) -> Result<(), LedgerError> {
    payment.concluded_at = (!payment.state.is_open()).then_some(at);
    set_payment(tx, payment, ask_at).await?;
    if !order_stands {
        refund_the_rest(tx, payment, at).await?;
    }
    Ok(())
}

async fn conclude_refund(
    tx: &mut Tx<'_>,
    order: OrderId,
    id: PaymentId,
    refund: RefundId,
    told: &Told,
    at: UnixMicros,
    witness: Witness<'_>,
) -> Result<Payment, LedgerError> {
    let (mut payment, order_stands) = locked(tx, order, id).await?;
    let known = refund_of(&mut payment, refund)?;
    if !known.state.is_open() {
        return Ok(payment);
    }
    let ask_at;
    (known.state, known.code, ask_at) = match told {
        Told::Done => (RefundState::Done, None, None),
        Told::Refused(code) => (RefundState::Refused, Some(code.clone()), None),
        Told::Nothing { ask_at } => (RefundState::Unknown, None, Some(*ask_at)),
    };
    write_refund(tx, &mut payment, refund, ask_at, order_stands, at, witness).await?;
    Ok(payment)
}

async fn resolve_refund(
    tx: &mut Tx<'_>,
    order: OrderId,
    id: PaymentId,
    refund: RefundId,
    verdict: Verdict<'_>,
    at: UnixMicros,
    witness: Witness<'_>,
) -> Result<Option<Payment>, LedgerError> {
    let (mut payment, order_stands) = locked(tx, order, id).await?;
    let known = refund_of(&mut payment, refund)?;
    if known.state != RefundState::Unknown {
        return Ok(None);
    }
    known.state = if verdict.moved { RefundState::Done } else { RefundState::Refused };
    known.code = Some(verdict.reason.clone());
    write_refund(tx, &mut payment, refund, None, order_stands, at, witness).await?;
    Ok(Some(payment))
}

/// Writes a refund's new state and what it makes of its payment.
async fn write_refund(
    tx: &mut Tx<'_>,
    payment: &mut Payment,
    refund: RefundId,
    ask_at: Option<UnixMicros>,
    order_stands: bool,
    at: UnixMicros,
    witness: Witness<'_>,
) -> Result<(), LedgerError> {
    let &mut Refund { amount, automatic, state, ref code, .. } = refund_of(payment, refund)?;
    let ended = ask_at.is_none().then_some(at.get());
    on_connection!(tx, connection =>
        sqlx::query(common!("set_refund"))
            .bind(refund.as_uuid())
            .bind(state.code())
            .bind(code.as_ref().map(ReasonCode::as_str))
            .bind(ask_at.map(UnixMicros::get))
            .bind(ended)
            .execute(connection).await.map(drop)?);
    if state == RefundState::Done {
        payment.refunded += amount;
        let whole = payment.refunded >= payment.charge.amount.amount();
        let event = if whole { PaymentEvent::GivenBackWhole } else { PaymentEvent::GivenBackInPart };
        let uncharged = LedgerError::Corrupt { table: "refunds", what: "a refund of what was not paid" };
        payment.state = payment.state.after(event).ok_or(uncharged)?;
        set_payment(tx, payment, None).await?;
    } else if state == RefundState::Refused && !automatic && !order_stands {
        // The order was cancelled while this one was under way: what it leaves goes back all the same.
        refund_the_rest(tx, payment, at).await?;
    }
    if !state.is_open() {
        // Nobody asked for an automatic one: it is what became of the payment, under the payment's key.
        let (asked_for, outcome) = match (automatic, state) {
            (false, _) => (Some(refund), state.code()),
            (true, RefundState::Done) => (None, payment.state.code()),
            (true, _) => (None, state.code()),
        };
        witnessed(tx, payment, asked_for, outcome, witness).await?;
    }
    Ok(())
}

fn refund_of(payment: &mut Payment, refund: RefundId) -> Result<&mut Refund, LedgerError> {
    let missing = LedgerError::Corrupt { table: "refunds", what: "a refund that is not there" };
    payment.refunds.iter_mut().find(|known| known.refund == refund).ok_or(missing)
}

/// Logs what became of a payment, or of a refund that was asked for; the last thing before the commit.
async fn witnessed(
    tx: &mut Tx<'_>,
    payment: &Payment,
    refund: Option<RefundId>,
    outcome: &str,
    witness: Witness<'_>,
) -> Result<(), LedgerError> {
    if matches!(witness, Witness::Asker) {
        return Ok(());
    }
    let id = payment.charge.payment;
    let key: Option<Vec<u8>> = on_connection!(tx, connection =>
        sqlx::query_scalar(common!("key_of"))
            .bind(id.as_uuid()).bind(refund.map(|refund| refund.as_uuid()))
            .fetch_optional(connection).await?);
    let nobody_s =
        LedgerError::Corrupt { table: "payment_requests", what: "a payment that nobody asked for" };
    let key = key.as_deref().and_then(KeyDigest::from_bytes).ok_or(nobody_s)?;
    let header = Header { brand: payment.brand.clone(), order: payment.charge.order, key };
    witness.concluded(&header, id, outcome).await.map_err(LedgerError::Unlogged)
}

/// Gives back what is left of the payments of cancelled orders, in the transaction that cancels them.
pub(in crate::ledger) async fn refund_cancelled(
    tx: &mut Tx<'_>,
    orders: &[Uuid],
    at: UnixMicros,
) -> Result<(), LedgerError> {
    for order in orders {
        let charged: Option<Uuid> = on_connection!(tx, connection =>
            sqlx::query_scalar(common!("charged_of")).bind(*order).fetch_optional(connection).await?);
        let Some(id) = charged else { continue };
        let corrupt = |_| LedgerError::Corrupt { table: "payments", what: "an id that is no UUIDv7" };
        let mut payment = found(tx, PaymentId::from_uuid(id).map_err(corrupt)?).await?;
        refund_the_rest(tx, &mut payment, at).await?;
    }
    Ok(())
}

/// Adds a refund, due at once, of what is left of a payment that moved money.
async fn refund_the_rest(tx: &mut Tx<'_>, payment: &mut Payment, at: UnixMicros) -> Result<(), LedgerError> {
    let amount = payment.left();
    if amount <= 0 {
        return Ok(());
    }
    let earlier = payment.refunds.iter().filter(|refund| refund.automatic).count();
    let nth = u32::try_from(earlier).unwrap_or(u32::MAX);
    let id = payment.charge.payment;
    let refund = RefundId::automatic(id, nth);
    let new = NewRefund { refund, payment: id, amount, reason: CANCELLED, automatic: true };
    let refund = add_refund(tx, &new, at, at).await?;
    payment.refunds.push(refund);
    Ok(())
}

async fn set_payment(
    tx: &mut Tx<'_>,
    payment: &Payment,
    ask_at: Option<UnixMicros>,
) -> Result<(), LedgerError> {
    on_connection!(tx, connection =>
        sqlx::query(common!("set_payment"))
            .bind(payment.charge.payment.as_uuid())
            .bind(payment.state.code())
            .bind(payment.refunded)
            .bind(payment.code.as_ref().map(ReasonCode::as_str))
            .bind(ask_at.map(UnixMicros::get))
            .bind(payment.concluded_at.map(UnixMicros::get))
            .execute(connection).await.map(drop)?);
    Ok(())
}

/// A payment behind the lock of its order, and whether that order stands.
async fn locked(tx: &mut Tx<'_>, order: OrderId, id: PaymentId) -> Result<(Payment, bool), LedgerError> {
    let order = lock_order(tx, order).await?;
    Ok((found(tx, id).await?, order.is_some_and(|order| order.placed)))
}

async fn found(tx: &mut Tx<'_>, id: PaymentId) -> Result<Payment, LedgerError> {
    let missing = LedgerError::Corrupt { table: "payments", what: "a payment that is not there" };
    payment(tx, id).await?.ok_or(missing)
}
