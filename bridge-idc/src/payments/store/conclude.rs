//! Conclusions: applies reported outcomes to payments and refunds, under the order's lock. Money
//! that pays for nothing is refunded, because its order was cancelled or its charge came late.
//!
//! A conclusion is in the audit log before its commit, so the ledger never shows one that the log
//! lacks. A transaction here gets the conclusion that the log has, and commits no other. If it
//! decides on another one, it writes nothing and returns that one. The caller logs it, and a new
//! transaction decides again under the lock. If a commit fails, the conclusion is logged and
//! committed again later. An operator's decision is different: the log has the decision before the
//! commit, and the commit after it, because no agent repeats the decision.

use std::time::Duration;

use bridge_protocol::domain::payment::PaymentEvent;
use bridge_protocol::domain::{
    KeyDigest, OrderId, PaymentId, PaymentState, ReasonCode, RefundId, RefundState, UnixMicros,
};
use bridge_protocol::seal::sealing::Header;
use uuid::Uuid;

use super::begin::add_refund;
use super::statements::{NewRefund, PaymentEnd, RefundEnd, Statements, clock, found, locked};
use crate::database::{self, LedgerError};
use crate::payments::policy::look_again;
use crate::payments::{Payment, Refund};

/// Reason of an automatic refund for a cancelled order.
const CANCELLED: &str = "the order was cancelled";

/// Reason of an automatic refund of a late charge. The shop had already learned that the payment
/// was not paid.
const LATE: &str = "it was charged after it had been given up";

/// Reason of a refund that the gateway refused, and that a person made in another way.
const BY_HAND: &str = "the gateway refused to give it back, and it went back in another way";

/// The outcome of a payment or refund, as a gateway or an operator reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportedOutcome {
    /// The money moved: it was charged or refunded.
    Done,
    /// The gateway refused the request itself. The money did not move and never will.
    Refused(ReasonCode),
    /// In answer to a query, the gateway says that the money did not move, or that it does not know
    /// the request. This proves nothing about a request that is still on its way.
    NotDone(ReasonCode),
    /// The answer proves nothing. The next query is due after a delay.
    Nothing {
        /// The delay.
        ask_after: Duration,
    },
}

/// The state of a payment after a reported outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concluded {
    /// The payment.
    pub payment: Payment,
    /// True if this conclusion put the state into the audit log.
    pub logged: bool,
}

/// The new state of a payment or refund, with the header of its request. The audit log has the
/// conclusion before the ledger commits it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    /// Header of the request.
    pub header: Header,
    /// The payment.
    pub payment: PaymentId,
    /// Code of the new state of the payment, or of the refund.
    pub outcome: &'static str,
}

/// Result of a transaction that commits only a logged conclusion.
pub type Attempt<V> = database::Attempt<V, Conclusion>;

/// An operator's decision about money whose outcome is unknown.
#[derive(Debug, Clone, Copy)]
pub struct OperatorDecision<'reason> {
    /// True if the money moved.
    pub moved: bool,
    /// Amount that went back of a refund that the gateway refused, in minor units. `None` means all
    /// of it.
    pub amount: Option<i64>,
    /// The operator's reason.
    pub reason: &'reason ReasonCode,
    /// Longest time for which a request to charge counts as on its way:
    /// [`PaymentLimits::request_lasts`]. It counts again from the end of a request that gave no
    /// outcome, because a gateway that timed out, or answered with an error, may still be working
    /// on it.
    ///
    /// [`PaymentLimits::request_lasts`]: crate::payments::service::PaymentLimits::request_lasts
    pub request_lasts: Duration,
}

/// The result of an operator's decision in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolveResult {
    /// The doubt is resolved.
    Stands(Box<Payment>),
    /// There is no doubt, or it was resolved earlier.
    Known,
    /// The refused refund cannot have gone back with this amount. The value is the amount that is
    /// left of the payment, in minor units. Other refunds have the rest, or are on their way with
    /// it.
    NotLeft(i64),
    /// The operator cannot decide yet that no money moved. A request may be on its way to the
    /// gateway until this time.
    OnItsWay(UnixMicros),
}

pub(super) async fn conclude_payment(
    tx: &mut impl Statements,
    order: OrderId,
    id: PaymentId,
    told: &ReportedOutcome,
    held: Option<UnixMicros>,
    logged: Option<&Conclusion>,
) -> Result<Attempt<Concluded>, LedgerError> {
    let (mut payment, order_stands) = locked(tx, order, id).await?;
    let now = clock(tx).await?;
    if held == Some(payment.confirm_until) {
        payment.confirm_until = payment.confirm_until.min(now);
    }
    let on_its_way = payment.confirm_until > now;
    let (event, code, ask_at) = match told {
        ReportedOutcome::Done => (PaymentEvent::Charged, None, None),
        ReportedOutcome::NotDone(_) if on_its_way => {
            (PaymentEvent::Doubtful, None, Some(payment.confirm_until))
        }
        ReportedOutcome::Refused(code) | ReportedOutcome::NotDone(code) => {
            (PaymentEvent::Refused, Some(code), None)
        }
        ReportedOutcome::Nothing { ask_after } => (PaymentEvent::Doubtful, None, Some(now.plus(*ask_after))),
    };
    let before = payment.state;
    let after = match before.after(event) {
        Some(after) if before.is_open() => after,
        Some(after) if after != before && !is_another_s(tx, &payment).await? => after,
        // A given-up payment learns nothing new from this outcome.
        _ if before.is_given_up() => {
            let ask_at = asked_again_at(&payment, now);
            set_payment(tx, &payment, ask_at).await?;
            return Ok(as_before(payment));
        }
        Some(_) => return Ok(as_before(payment)),
        None => {
            if event == PaymentEvent::Refused {
                tracing::error!(payment = %id, state = before.code(), "the gateway refused a payment that it had charged before");
            }
            return Ok(as_before(payment));
        }
    };
    payment.state = after;
    payment.code = code.cloned().or(payment.code);
    let ended = !after.is_open();
    if ended && let Some(conclusion) = to_log(tx, &payment, None, logged).await? {
        return Ok(Attempt::ToLog(conclusion));
    }
    write(tx, &mut payment, ask_at, order_stands, now).await?;
    if after == PaymentState::ChargedLate {
        tracing::error!(payment = %id, state = before.code(), "charged after it had been given up: the money goes back by itself");
    }
    Ok(Attempt::Committed(Concluded { payment, logged: ended }))
}

/// Returns a payment that the outcome did not change.
fn as_before(payment: Payment) -> Attempt<Concluded> {
    Attempt::Committed(Concluded { payment, logged: false })
}

/// Returns true if the order has another payment with the same gateway key. The gateway charges
/// once for that key and cannot tell the payments apart.
async fn is_another_s(tx: &mut impl Statements, payment: &Payment) -> Result<bool, LedgerError> {
    Ok(tx.beside(&payment.charge).await? > 0)
}

/// Returns the time of the next look at a payment that was given up after a doubt. Returns `None`
/// for a payment that the gateway itself declined.
fn asked_again_at(payment: &Payment, now: UnixMicros) -> Option<UnixMicros> {
    let concluded_at = payment.concluded_at.filter(|_| payment.state == PaymentState::NotPaid)?;
    look_again(now.since(concluded_at)).map(|wait| now.plus(wait))
}

pub(super) async fn resolve_payment(
    tx: &mut impl Statements,
    order: OrderId,
    id: PaymentId,
    verdict: OperatorDecision<'_>,
    logged: Option<&Conclusion>,
) -> Result<Attempt<ResolveResult>, LedgerError> {
    let (mut payment, order_stands) = locked(tx, order, id).await?;
    let event = if verdict.moved { PaymentEvent::Charged } else { PaymentEvent::Refused };
    let now = clock(tx).await?;
    match payment.state.after(event) {
        Some(after) if payment.state == PaymentState::Unknown => payment.state = after,
        _ => return Ok(Attempt::Committed(ResolveResult::Known)),
    }
    // `confirm_until` ends with the request, so that the agent may repeat it under its key. An
    // operator's decision has no such key.
    let over = payment.confirm_until.plus(verdict.request_lasts);
    if !verdict.moved && over > now {
        return Ok(Attempt::Committed(ResolveResult::OnItsWay(over)));
    }
    payment.code = Some(verdict.reason.clone());
    if let Some(conclusion) = to_log(tx, &payment, None, logged).await? {
        return Ok(Attempt::ToLog(conclusion));
    }
    write(tx, &mut payment, None, order_stands, now).await?;
    Ok(Attempt::Committed(ResolveResult::Stands(Box::new(payment))))
}

/// Writes a payment's new state. Refunds money that moved for a cancelled order or came late.
async fn write(
    tx: &mut impl Statements,
    payment: &mut Payment,
    ask_at: Option<UnixMicros>,
    order_stands: bool,
    at: UnixMicros,
) -> Result<(), LedgerError> {
    if !payment.state.is_open() {
        payment.concluded_at.get_or_insert(at);
    }
    let ask_at = ask_at.or_else(|| asked_again_at(payment, at));
    set_payment(tx, payment, ask_at).await?;
    if let Some(why) = goes_back(payment, order_stands) {
        refund_the_rest(tx, payment, why, at).await?;
    }
    Ok(())
}

/// Returns the reason why money that moved pays for nothing.
fn goes_back(payment: &Payment, order_stands: bool) -> Option<&'static str> {
    if payment.state.is_late() { Some(LATE) } else { (!order_stands).then_some(CANCELLED) }
}

pub(super) async fn conclude_refund(
    tx: &mut impl Statements,
    order: OrderId,
    id: PaymentId,
    refund: RefundId,
    told: &ReportedOutcome,
    logged: Option<&Conclusion>,
) -> Result<Attempt<Concluded>, LedgerError> {
    let (mut payment, order_stands) = locked(tx, order, id).await?;
    let now = clock(tx).await?;
    let room = payment.charge.amount.amount() - payment.refunded;
    let known = refund_of(&mut payment, refund)?;
    // An operator decided that the refund was refused while a request for it was on its way. The
    // money is back all the same.
    let went_back = known.state == RefundState::Refused && *told == ReportedOutcome::Done;
    let after_all = went_back && known.amount <= room;
    if went_back && !after_all {
        tracing::error!(refund = %refund, "it went back after it had been called refused, and so did another refund: more is back than was paid");
    }
    if !known.state.is_open() && !after_all {
        return Ok(as_before(payment));
    }
    // A refund that was requested once, and answered, has no other request that could arrive later.
    let was_in_doubt = known.state == RefundState::Unknown || known.asks > u32::from(known.automatic);
    let ask_at;
    (known.state, known.code, ask_at) = match told {
        ReportedOutcome::Done => (RefundState::Done, None, None),
        ReportedOutcome::NotDone(_) if known.give_back_until > now => {
            (RefundState::Unknown, None, Some(known.give_back_until))
        }
        ReportedOutcome::Refused(code) | ReportedOutcome::NotDone(code) => {
            (RefundState::Refused, Some(code.clone()), None)
        }
        ReportedOutcome::Nothing { ask_after } => (RefundState::Unknown, None, Some(now.plus(*ask_after))),
    };
    let ended = !known.state.is_open();
    count_back(&mut payment, refund)?;
    if ended && let Some(conclusion) = to_log(tx, &payment, Some(refund), logged).await? {
        return Ok(Attempt::ToLog(conclusion));
    }
    let again = RefundAgain { ask_at, look_at: looked_at(&payment, refund, was_in_doubt, now) };
    write_refund(tx, &mut payment, refund, again, order_stands, now).await?;
    Ok(Attempt::Committed(Concluded { payment, logged: ended }))
}

/// Returns the time of the next look at a refund. Only a refund that was refused after a doubt is
/// looked at, because it may have gone back all the same.
fn looked_at(payment: &Payment, refund: RefundId, was_in_doubt: bool, now: UnixMicros) -> Option<UnixMicros> {
    let is_refused = payment.refund(refund).is_some_and(|refund| refund.state == RefundState::Refused);
    let wait = look_again(Duration::ZERO).filter(|_| is_refused && was_in_doubt)?;
    Some(now.plus(wait))
}

/// Compares a refused refund with the amounts that the gateway shows as refunded. The refund is
/// never requested again: if its first request was lost, the money may have gone back in another
/// way since.
pub(super) async fn look_at_refund(
    tx: &mut impl Statements,
    order: OrderId,
    id: PaymentId,
    refund: RefundId,
    shown: Option<&[i64]>,
    logged: Option<&Conclusion>,
) -> Result<Attempt<Concluded>, LedgerError> {
    let (mut payment, order_stands) = locked(tx, order, id).await?;
    let now = clock(tx).await?;
    let room = payment.charge.amount.amount() - payment.refunded;
    let &mut Refund { amount, state, concluded_at, .. } = refund_of(&mut payment, refund)?;
    if state != RefundState::Refused {
        return Ok(as_before(payment));
    }
    let is_back = shown.is_some_and(|shown| is_not_accounted_for(&payment, amount, shown));
    if is_back && amount > room {
        tracing::error!(refund = %refund, "it went back after it had been called refused, and so did another refund: more is back than was paid");
    }
    if !is_back || amount > room {
        let wait = concluded_at.and_then(|at| look_again(now.since(at)));
        tx.look_later(refund.as_uuid(), wait.map(|wait| now.plus(wait).get())).await?;
        return Ok(as_before(payment));
    }
    let known = refund_of(&mut payment, refund)?;
    (known.state, known.code) = (RefundState::Done, None);
    count_back(&mut payment, refund)?;
    if let Some(conclusion) = to_log(tx, &payment, Some(refund), logged).await? {
        return Ok(Attempt::ToLog(conclusion));
    }
    write_refund(tx, &mut payment, refund, RefundAgain::default(), order_stands, now).await?;
    Ok(Attempt::Committed(Concluded { payment, logged: true }))
}

/// Returns true if the gateway shows more refunds of this amount than the ledger has as done. The
/// gateway does not name its refunds. So while another refund is under way, the amounts prove
/// nothing.
fn is_not_accounted_for(payment: &Payment, amount: i64, shown: &[i64]) -> bool {
    let is_open = payment.refunds.iter().any(|refund| refund.state.is_open());
    let is_done = |refund: &&Refund| refund.state == RefundState::Done && refund.amount == amount;
    let done = payment.refunds.iter().filter(is_done).count();
    !is_open && shown.iter().filter(|shown| **shown == amount).count() > done
}

pub(super) async fn resolve_refund(
    tx: &mut impl Statements,
    order: OrderId,
    id: PaymentId,
    refund: RefundId,
    verdict: OperatorDecision<'_>,
    logged: Option<&Conclusion>,
) -> Result<Attempt<ResolveResult>, LedgerError> {
    let (mut payment, order_stands) = locked(tx, order, id).await?;
    let now = clock(tx).await?;
    let left = payment.left();
    let known = refund_of(&mut payment, refund)?;
    let ended = match known.state {
        // If this refund went back after all, a new refund in its place could not be undone.
        RefundState::Unknown if !verdict.moved && known.give_back_until > now => {
            return Ok(Attempt::Committed(ResolveResult::OnItsWay(known.give_back_until)));
        }
        RefundState::Unknown => refund,
        // No agent requests this refund again.
        RefundState::Refused if known.automatic && verdict.moved => {
            match by_hand(known.amount, left, verdict.amount) {
                Some(ByHand::All) => refund,
                Some(ByHand::Rest) => add_automatic(tx, &mut payment, left, BY_HAND, now).await?,
                None => return Ok(Attempt::Committed(ResolveResult::NotLeft(left))),
            }
        }
        RefundState::Confirming | RefundState::Done | RefundState::Refused => {
            return Ok(Attempt::Committed(ResolveResult::Known));
        }
    };
    let known = refund_of(&mut payment, ended)?;
    known.state = if verdict.moved { RefundState::Done } else { RefundState::Refused };
    known.code = Some(verdict.reason.clone());
    count_back(&mut payment, ended)?;
    if let Some(conclusion) = to_log(tx, &payment, Some(ended), logged).await? {
        return Ok(Attempt::ToLog(conclusion));
    }
    let again = RefundAgain { ask_at: None, look_at: looked_at(&payment, ended, true, now) };
    write_refund(tx, &mut payment, ended, again, order_stands, now).await?;
    Ok(Attempt::Committed(ResolveResult::Stands(Box::new(payment))))
}

/// Money that went back by hand in place of a refund that the gateway refused.
enum ByHand {
    /// The whole refund.
    All,
    /// The rest of the payment after other refunds, which is less than the refused refund. It
    /// becomes a refund of its own, so that the refused one keeps its amount.
    Rest,
}

/// Interprets an operator's amount. Returns `None` if it is not possible. Refunds under way count
/// as done, so no more than the paid amount ever goes back. An amount smaller than the rest is not
/// accepted, because it would count twice if the command ran twice.
fn by_hand(refused: i64, left: i64, said: Option<i64>) -> Option<ByHand> {
    match said.unwrap_or(refused) {
        amount if amount == refused && refused <= left => Some(ByHand::All),
        amount if amount == left && (1..refused).contains(&left) => Some(ByHand::Rest),
        _ => None,
    }
}

/// Adds a completed refund to the refunded amount of its payment, and changes the payment's state.
fn count_back(payment: &mut Payment, refund: RefundId) -> Result<(), LedgerError> {
    let &mut Refund { amount, state, .. } = refund_of(payment, refund)?;
    if state == RefundState::Done {
        payment.refunded += amount;
        let whole = payment.refunded >= payment.charge.amount.amount();
        let event = if whole { PaymentEvent::GivenBackWhole } else { PaymentEvent::GivenBackInPart };
        let uncharged = LedgerError::Corrupt { table: "refunds", what: "a refund of an unpaid payment" };
        payment.state = payment.state.after(event).ok_or(uncharged)?;
    }
    Ok(())
}

/// Times at which a refund is due again.
#[derive(Default)]
struct RefundAgain {
    /// Time of the next request for a refund of unknown outcome.
    ask_at: Option<UnixMicros>,
    /// Time of the next look at a refused refund.
    look_at: Option<UnixMicros>,
}

/// Writes a refund's new state and its effect on the payment.
async fn write_refund(
    tx: &mut impl Statements,
    payment: &mut Payment,
    refund: RefundId,
    RefundAgain { ask_at, look_at }: RefundAgain,
    order_stands: bool,
    at: UnixMicros,
) -> Result<(), LedgerError> {
    let known = refund_of(payment, refund)?;
    known.concluded_at = ask_at.is_none().then_some(at);
    let &mut Refund { automatic, state, ref code, give_back_until, concluded_at, .. } = known;
    let end = RefundEnd {
        refund: refund.as_uuid(),
        state: state.code(),
        code: code.as_ref().map(ReasonCode::as_str),
        next_ask_at: ask_at.map(UnixMicros::get),
        concluded_at: concluded_at.map(UnixMicros::get),
        give_back_until: give_back_until.get(),
        look_at: look_at.map(UnixMicros::get),
    };
    if tx.set_refund(end).await? == 0 {
        return Err(LedgerError::Conflict);
    }
    if state == RefundState::Done {
        set_payment(tx, payment, None).await?;
    } else if state == RefundState::Refused
        && !automatic
        && let Some(why) = goes_back(payment, order_stands)
    {
        // The order was cancelled while this refund was under way. The rest of the payment is then
        // refunded all the same.
        refund_the_rest(tx, payment, why, at).await?;
    }
    Ok(())
}

fn refund_of(payment: &mut Payment, refund: RefundId) -> Result<&mut Refund, LedgerError> {
    let missing = LedgerError::Corrupt { table: "refunds", what: "a missing refund" };
    payment.refunds.iter_mut().find(|known| known.refund == refund).ok_or(missing)
}

/// Returns the conclusion that must be logged before the payment or its refund may have its new
/// state. Returns `None` if the log has it.
async fn to_log(
    tx: &mut impl Statements,
    payment: &Payment,
    refund: Option<RefundId>,
    logged: Option<&Conclusion>,
) -> Result<Option<Conclusion>, LedgerError> {
    let refund = refund.and_then(|refund| payment.refund(refund));
    let id = payment.charge.payment;
    // An automatic refund has no request of its own. Its conclusion is logged under the payment's
    // key.
    let asked_for = refund.filter(|refund| !refund.automatic).map(|refund| refund.refund.as_uuid());
    let key = tx.key_of(id.as_uuid(), asked_for).await?;
    let nobody_s = LedgerError::Corrupt { table: "payment_requests", what: "a payment without a request" };
    let key = key.as_deref().and_then(KeyDigest::from_bytes).ok_or(nobody_s)?;
    let header = Header { brand: payment.brand.clone(), order: payment.charge.order, key };
    let conclusion = Conclusion { header, payment: id, outcome: outcome(payment, refund) };
    Ok((logged != Some(&conclusion)).then_some(conclusion))
}

/// Returns the code of a payment's or refund's state, as the audit log has it.
pub(crate) fn outcome(payment: &Payment, refund: Option<&Refund>) -> &'static str {
    match refund {
        None => payment.state.code(),
        Some(Refund { automatic: true, state: RefundState::Done, .. }) => payment.state.code(),
        Some(refund) => refund.state.code(),
    }
}

/// Refunds the rest of the payments of cancelled orders, in the transaction that cancels them.
pub(crate) async fn refund_cancelled(tx: &mut impl Statements, orders: &[Uuid]) -> Result<(), LedgerError> {
    if orders.is_empty() {
        return Ok(());
    }
    for id in tx.charged_of(orders).await? {
        let corrupt = |_| LedgerError::Corrupt { table: "payments", what: "an id that is not a UUIDv7" };
        let mut payment = found(tx, PaymentId::from_uuid(id).map_err(corrupt)?).await?;
        let now = clock(tx).await?;
        refund_the_rest(tx, &mut payment, CANCELLED, now).await?;
    }
    Ok(())
}

/// Adds an automatic refund of the rest of a payment. It is due at once.
async fn refund_the_rest(
    tx: &mut impl Statements,
    payment: &mut Payment,
    why: &str,
    at: UnixMicros,
) -> Result<(), LedgerError> {
    let amount = payment.left();
    if amount > 0 {
        add_automatic(tx, payment, amount, why, at).await?;
    }
    Ok(())
}

/// Adds an automatic refund. It is due at once.
async fn add_automatic(
    tx: &mut impl Statements,
    payment: &mut Payment,
    amount: i64,
    why: &str,
    at: UnixMicros,
) -> Result<RefundId, LedgerError> {
    let earlier = payment.refunds.iter().filter(|refund| refund.automatic).count();
    let nth = u32::try_from(earlier).unwrap_or(u32::MAX);
    let id = payment.charge.payment;
    let refund = RefundId::automatic(id, nth);
    let new = NewRefund { refund, payment: id, amount, reason: why, automatic: true };
    payment.refunds.push(add_refund(tx, &new, at, None).await?);
    Ok(refund)
}

/// Writes a payment's state. `ask_at` is the time of the next query or, for a payment that was
/// given up, of the next look. Looks have a column of their own, because an agent of the previous
/// version takes each due query for a doubt, and may charge.
async fn set_payment(
    tx: &mut impl Statements,
    payment: &Payment,
    ask_at: Option<UnixMicros>,
) -> Result<(), LedgerError> {
    let given_up = payment.state.is_given_up();
    let (next_ask_at, look_at) = if given_up { (None, ask_at) } else { (ask_at, None) };
    tx.set_payment(PaymentEnd {
        payment: payment.charge.payment.as_uuid(),
        state: payment.state.code(),
        refunded: payment.refunded,
        code: payment.code.as_ref().map(ReasonCode::as_str),
        next_ask_at: next_ask_at.map(UnixMicros::get),
        concluded_at: payment.concluded_at.map(UnixMicros::get),
        confirm_until: payment.confirm_until.get(),
        look_at: look_at.map(UnixMicros::get),
    })
    .await?;
    Ok(())
}
