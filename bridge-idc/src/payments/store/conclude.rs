//! What the gateway's answers come to: the state table applied behind the order's lock, and money sent back that pays for
//! nothing, since its order was cancelled or it was charged late.
//!
//! What is concluded is in the audit log before it is committed, so that there is no moment in which the ledger tells what
//! the log does not have. A transaction here is told what the log has, and commits nothing else: it says what is to be logged
//! and ends, and after that a new one decides anew, behind the lock. If the commit then fails it is concluded, and logged, once
//! more. Of what an operator says the log has that it was said, before; that it is committed is logged after it, since nobody
//! does it once more.

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

/// Why money goes back that nobody asked for: its order does not stand,
const CANCELLED: &str = "the order was cancelled";

/// or the shop was told before that it was not paid.
const LATE: &str = "it was charged after it had been given up";

/// Why money is back that no gateway was asked for: its people, or somebody else, gave it back.
const BY_HAND: &str = "the gateway refused to give it back, and it went back in another way";

/// What was told about a payment or a refund, by a gateway or by an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportedOutcome {
    /// It was done: charged, or given back.
    Done,
    /// The request itself was refused: it was not done, and will not be.
    Refused(ReasonCode),
    /// Asked about it, the gateway says that it was not done, or has no trace of it: that tells only of what has reached the
    /// gateway. While a request may be on its way it proves nothing.
    NotDone(ReasonCode),
    /// Nothing that proves anything; it is to be asked about again after so long.
    Nothing {
        /// How long.
        ask_after: Duration,
    },
}

/// How something stands after what was told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concluded {
    /// The payment.
    pub payment: Payment,
    /// What became of it is in the audit log, by this conclusion.
    pub logged: bool,
}

/// What a payment or a refund comes to, and under whose key: what the audit log has before it is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    /// The request for it.
    pub header: Header,
    /// The payment.
    pub payment: PaymentId,
    /// How the payment, or the refund, stands then.
    pub outcome: &'static str,
}

/// What a transaction came to that commits only what the audit log has.
pub type Attempt<V> = database::Attempt<V, Conclusion>;

/// What an operator says of money that nobody could tell about.
#[derive(Debug, Clone, Copy)]
pub struct OperatorDecision<'reason> {
    /// Whether it moved.
    pub moved: bool,
    /// How much of a refund that the gateway refused went back, in minor units; `None`: all of it.
    pub amount: Option<i64>,
    /// Why that is known.
    pub reason: &'reason ReasonCode,
}

/// What an operator's word came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolveResult {
    /// The doubt is over.
    Stands(Box<Payment>),
    /// There is no doubt (any more).
    Known,
    /// The refund was refused, and what is said to have gone back is not what can have: so much is left of the payment, in minor
    /// units. The rest is back by another refund, or on its way.
    NotLeft(i64),
    /// That no money moved cannot be said yet: until then a request for it may be on its way to the gateway.
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
        // One that is over has nothing new to tell.
        _ if before.is_given_up() => {
            let ask_at = asked_again_at(&payment, now);
            set_payment(tx, &payment, ask_at).await?;
            return Ok(as_before(payment));
        }
        Some(_) => return Ok(as_before(payment)),
        None => {
            if event == PaymentEvent::Refused {
                tracing::error!(payment = %id, state = before.code(), "the gateway refused what it had charged before");
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

/// What was told concludes nothing.
fn as_before(payment: Payment) -> Attempt<Concluded> {
    Attempt::Committed(Concluded { payment, logged: false })
}

/// Whether what the gateway shows as charged is another payment of the order: one by the same token, which it charges once
/// and cannot tell apart.
async fn is_another_s(tx: &mut impl Statements, payment: &Payment) -> Result<bool, LedgerError> {
    Ok(tx.beside(&payment.charge).await? > 0)
}

/// When a payment that was given up after a doubt is asked about once more. What the gateway declined it has told itself.
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
    if !verdict.moved && payment.confirm_until > now {
        return Ok(Attempt::Committed(ResolveResult::OnItsWay(payment.confirm_until)));
    }
    payment.code = Some(verdict.reason.clone());
    if let Some(conclusion) = to_log(tx, &payment, None, logged).await? {
        return Ok(Attempt::ToLog(conclusion));
    }
    write(tx, &mut payment, None, order_stands, now).await?;
    Ok(Attempt::Committed(ResolveResult::Stands(Box::new(payment))))
}

/// Writes a payment's new state. Money that moved for an order that does not stand, or late, goes back.
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

/// Why money that moved pays for nothing.
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
    // An operator said that it was refused, while it was being asked for: the money is back all the same.
    let went_back = known.state == RefundState::Refused && *told == ReportedOutcome::Done;
    let after_all = went_back && known.amount <= room;
    if went_back && !after_all {
        tracing::error!(refund = %refund, "it went back after it had been called refused, and so did another refund: more is back than was paid");
    }
    if !known.state.is_open() && !after_all {
        return Ok(as_before(payment));
    }
    // Of what was asked for once, and answered, no request is left that could come later.
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

/// When a refund that stands so is looked at: one that was refused after a doubt may have gone back all the same.
fn looked_at(payment: &Payment, refund: RefundId, was_in_doubt: bool, now: UnixMicros) -> Option<UnixMicros> {
    let is_refused = payment.refund(refund).is_some_and(|refund| refund.state == RefundState::Refused);
    let wait = look_again(Duration::ZERO).filter(|_| is_refused && was_in_doubt)?;
    Some(now.plus(wait))
}

/// What the gateway shows as given back of a payment, beside one of its refunds that was refused. It is never asked for again: if
/// its request was lost, that would give back now what somebody may have given back otherwise.
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

/// Whether a gateway shows more refunds of that amount than the ledger has as done. It names none of them, so while one is under way
/// nobody can tell which it shows.
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
        // Should it go back after all, so would what takes its place: nobody can undo that.
        RefundState::Unknown if !verdict.moved && known.give_back_until > now => {
            return Ok(Attempt::Committed(ResolveResult::OnItsWay(known.give_back_until)));
        }
        RefundState::Unknown => refund,
        // Nobody asks for it again.
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

/// What went back by hand in place of a refund that the gateway refused.
enum ByHand {
    /// All that it asked for.
    All,
    /// What other refunds left of the payment, which is less: a refund of its own, so that the refused one stays as it was asked for.
    Rest,
}

/// What an operator's amount comes to, `None` if that cannot be. What is under way counts as given back: should it be done after
/// this, no more goes back than was paid. A part of what is left is never said: said twice, it would count twice.
fn by_hand(refused: i64, left: i64, said: Option<i64>) -> Option<ByHand> {
    match said.unwrap_or(refused) {
        amount if amount == refused && refused <= left => Some(ByHand::All),
        amount if amount == left && (1..refused).contains(&left) => Some(ByHand::Rest),
        _ => None,
    }
}

/// What a refund that is done makes of its payment.
fn count_back(payment: &mut Payment, refund: RefundId) -> Result<(), LedgerError> {
    let &mut Refund { amount, state, .. } = refund_of(payment, refund)?;
    if state == RefundState::Done {
        payment.refunded += amount;
        let whole = payment.refunded >= payment.charge.amount.amount();
        let event = if whole { PaymentEvent::GivenBackWhole } else { PaymentEvent::GivenBackInPart };
        let uncharged = LedgerError::Corrupt { table: "refunds", what: "a refund of what was not paid" };
        payment.state = payment.state.after(event).ok_or(uncharged)?;
    }
    Ok(())
}

/// When somebody comes back to a refund.
#[derive(Default)]
struct RefundAgain {
    /// It is asked for again, since nobody can tell.
    ask_at: Option<UnixMicros>,
    /// It was refused, and is looked at.
    look_at: Option<UnixMicros>,
}

/// Writes a refund's new state and what it made of its payment.
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
        // The order was cancelled while this one was under way: what it leaves goes back all the same.
        refund_the_rest(tx, payment, why, at).await?;
    }
    Ok(())
}

fn refund_of(payment: &mut Payment, refund: RefundId) -> Result<&mut Refund, LedgerError> {
    let missing = LedgerError::Corrupt { table: "refunds", what: "a refund that is not there" };
    payment.refunds.iter_mut().find(|known| known.refund == refund).ok_or(missing)
}

/// What is to be logged before a payment, or a refund of it, may stand as it does here: nothing if that is what the log has.
async fn to_log(
    tx: &mut impl Statements,
    payment: &Payment,
    refund: Option<RefundId>,
    logged: Option<&Conclusion>,
) -> Result<Option<Conclusion>, LedgerError> {
    let refund = refund.and_then(|refund| payment.refund(refund));
    let id = payment.charge.payment;
    // Nobody asked for an automatic one: it is what became of the payment, under the payment's key.
    let asked_for = refund.filter(|refund| !refund.automatic).map(|refund| refund.refund.as_uuid());
    let key = tx.key_of(id.as_uuid(), asked_for).await?;
    let nobody_s =
        LedgerError::Corrupt { table: "payment_requests", what: "a payment that nobody asked for" };
    let key = key.as_deref().and_then(KeyDigest::from_bytes).ok_or(nobody_s)?;
    let header = Header { brand: payment.brand.clone(), order: payment.charge.order, key };
    let conclusion = Conclusion { header, payment: id, outcome: outcome(payment, refund) };
    Ok((logged != Some(&conclusion)).then_some(conclusion))
}

/// How a payment stands, or a refund of it, by the word that the log has for it.
pub(crate) fn outcome(payment: &Payment, refund: Option<&Refund>) -> &'static str {
    match refund {
        None => payment.state.code(),
        Some(Refund { automatic: true, state: RefundState::Done, .. }) => payment.state.code(),
        Some(refund) => refund.state.code(),
    }
}

/// Gives back what is left of the payments of cancelled orders, in the transaction that cancels them.
pub(crate) async fn refund_cancelled(tx: &mut impl Statements, orders: &[Uuid]) -> Result<(), LedgerError> {
    for order in orders {
        let Some(id) = tx.charged_of(*order).await? else { continue };
        let corrupt = |_| LedgerError::Corrupt { table: "payments", what: "an id that is no UUIDv7" };
        let mut payment = found(tx, PaymentId::from_uuid(id).map_err(corrupt)?).await?;
        let now = clock(tx).await?;
        refund_the_rest(tx, &mut payment, CANCELLED, now).await?;
    }
    Ok(())
}

/// Adds a refund, due at once, of what is left of a payment that moved money.
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

/// Adds a refund, due at once, that nobody asked for.
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

/// Writes how a payment stands. `ask_at` is when it is asked about, or looked at if it was given up: an agent of a version
/// before takes whatever is to be asked about for a doubt, and may have it charged.
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
