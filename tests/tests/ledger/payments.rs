//! Cases about payments that the ledger must pass on either database. There is no gateway here: the
//! tests report its answers.

use std::sync::LazyLock;
use std::time::Duration;

use bridge_idc::orders::store::Ledger;
use bridge_idc::payments::audit::{LogFirst, conclude_payment, conclude_refund};
use bridge_idc::payments::store::{
    Attempt, Begun, Conclusion, Doubt, NotDone, OperatorDecision, PaymentLedger as _, ReportedOutcome,
    ResolveResult, Sums,
};
use bridge_idc::payments::{ChargeRequest, GiveBackRequest, Payment};
use bridge_protocol::domain::{
    Brand, Currency, Money, OrderId, Outcome, PaymentId, PaymentState, ReasonCode, RefundId, RefundState,
    UnixMicros,
};
use bridge_protocol::wire::order::Refusal;
use bridge_runtime::audit_log::{AuditLog, Closer};
use bridge_tests::testkit::audits;
use tempfile::TempDir;

use crate::database::Database;
use crate::refunds::none_is_on_its_way;
use crate::shop::{PRICE, Shop, TOTAL, commit_one, is_placed, krw, order_id, order_of, pay, refund, settled};

/// Opens a shop with an order of one unit.
pub(crate) async fn shop_with_order(database: &Database) -> (Shop, OrderId) {
    let shop = Shop::open(&database.ledger, "acme", &[("A", 100)]).await;
    let order = another_order(database, &shop, "k").await;
    (shop, order)
}

pub(crate) async fn another_order(database: &Database, shop: &Shop, key: &str) -> OrderId {
    let request = shop.place(key, &[("A", 1)]);
    assert!(is_placed(&commit_one(&database.ledger, request.clone()).await));
    order_of(&request)
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Returns an outcome that proves nothing. The gateway is asked again after this time.
pub(crate) fn nothing(ask_after: Duration) -> ReportedOutcome {
    ReportedOutcome::Nothing { ask_after }
}

/// Returns access to an audit log that all tests share.
fn log_first() -> LogFirst<'static> {
    static LOG: LazyLock<(TempDir, AuditLog, Closer)> = LazyLock::new(|| {
        let dir = tempfile::tempdir().unwrap();
        let (_, log, closer) = audits::open(dir.path()).unwrap();
        (dir, log, closer)
    });
    LogFirst::new(&LOG.1)
}

/// Repeats a transaction. Each time it reports an entry to log, the next attempt gets that entry as
/// logged.
async fn once_logged<V>(attempt: impl AsyncFn(Option<&Conclusion>) -> Result<Attempt<V>, NotDone>) -> V {
    let mut logged = None;
    loop {
        match attempt(logged.as_ref()).await.unwrap() {
            Attempt::Committed(value) => return value,
            Attempt::ToLog(conclusion) => logged = Some(conclusion),
        }
    }
}

pub(crate) async fn begin(ledger: &Ledger, asked: &ChargeRequest) -> Begun<Payment> {
    ledger.begin_payment(asked, seconds(60)).await.unwrap()
}

pub(crate) async fn begun(ledger: &Ledger, asked: &ChargeRequest) -> Payment {
    match begin(ledger, asked).await {
        Begun::New(payment) => payment,
        other => panic!("not new: {other:?}"),
    }
}

/// Reports the gateway's answer to the charge request that the payment waits for.
pub(crate) async fn told(ledger: &Ledger, payment: &Payment, told: ReportedOutcome) -> Payment {
    conclude(ledger, payment, told, Some(payment.confirm_until)).await
}

/// Reports the gateway's answer to an agent that only asked about the payment.
pub(crate) async fn found(ledger: &Ledger, payment: &Payment, told: ReportedOutcome) -> Payment {
    conclude(ledger, payment, told, None).await
}

async fn conclude(
    ledger: &Ledger,
    payment: &Payment,
    told: ReportedOutcome,
    held: Option<UnixMicros>,
) -> Payment {
    let (order, id) = (payment.charge.order, payment.charge.payment);
    conclude_payment(ledger, log_first(), order, id, &told, held).await.unwrap().payment
}

pub(crate) async fn resolve(ledger: &Ledger, payment: &Payment, moved: bool) -> ResolveResult {
    resolve_after(ledger, payment, moved, Duration::ZERO).await
}

/// Resolves a payment by an operator's decision. A request counts as on its way for this long.
pub(crate) async fn resolve_after(
    ledger: &Ledger,
    payment: &Payment,
    moved: bool,
    request_lasts: Duration,
) -> ResolveResult {
    let reason = ReasonCode::new("TICKET_4711").unwrap();
    let (order, id, verdict) = (
        payment.charge.order,
        payment.charge.payment,
        OperatorDecision { moved, amount: None, reason: &reason, request_lasts },
    );
    once_logged(async |said| ledger.resolve_payment(order, id, verdict, said).await).await
}

pub(crate) async fn resolve_refund(
    ledger: &Ledger,
    payment: &Payment,
    refund: RefundId,
    moved: bool,
) -> ResolveResult {
    let reason = ReasonCode::new("TICKET_4711").unwrap();
    let (order, id, verdict) = (
        payment.charge.order,
        payment.charge.payment,
        OperatorDecision { moved, amount: None, reason: &reason, request_lasts: Duration::ZERO },
    );
    once_logged(async |said| ledger.resolve_refund(order, id, refund, verdict, said).await).await
}

/// Resolves a refused refund: `amount` went back in another way. See [`resolve_refund`].
pub(crate) async fn resolve_rest(
    ledger: &Ledger,
    payment: &Payment,
    refund: RefundId,
    amount: i64,
) -> ResolveResult {
    let reason = ReasonCode::new("TICKET_4711").unwrap();
    let verdict = OperatorDecision {
        moved: true,
        amount: Some(amount),
        reason: &reason,
        request_lasts: Duration::ZERO,
    };
    let (order, id) = (payment.charge.order, payment.charge.payment);
    once_logged(async |said| ledger.resolve_refund(order, id, refund, verdict, said).await).await
}

fn resolved(resolved: ResolveResult) -> Payment {
    match resolved {
        ResolveResult::Stands(payment) => *payment,
        other => panic!("not resolved: {other:?}"),
    }
}

pub(crate) async fn paid(ledger: &Ledger, shop: &Shop, key: &str, order: OrderId) -> Payment {
    let payment = begun(ledger, &pay(shop, key, order)).await;
    let payment = told(ledger, &payment, ReportedOutcome::Done).await;
    assert_eq!(payment.state, PaymentState::Paid);
    payment
}

pub(crate) async fn begin_refund(
    ledger: &Ledger,
    asked: &GiveBackRequest,
) -> Result<(Payment, RefundId), Refusal> {
    match ledger.begin_refund(asked, seconds(60)).await.unwrap() {
        Begun::New(begun) => Ok(begun),
        Begun::Known(_) => panic!("the refund is not new"),
        Begun::Refused(refusal) | Begun::InTheWay(refusal, _) => Err(refusal),
    }
}

pub(crate) async fn refund_told(
    ledger: &Ledger,
    payment: &Payment,
    refund: RefundId,
    told: ReportedOutcome,
) -> Payment {
    let (order, id) = (payment.charge.order, payment.charge.payment);
    conclude_refund(ledger, log_first(), order, id, refund, &told).await.unwrap().payment
}

pub(crate) fn declined() -> ReportedOutcome {
    ReportedOutcome::Refused(ReasonCode::new("REJECT_CARD_COMPANY").unwrap())
}

pub(crate) async fn cancel(ledger: &Ledger, shop: &Shop, order: OrderId) {
    assert_eq!(settled(&commit_one(ledger, shop.cancel("cancel", order)).await), (Outcome::Cancelled, false));
}

/// Returns the payment as another connection reads it.
pub(crate) async fn read(ledger: &Ledger, payment: &Payment) -> Payment {
    ledger.payment(payment.charge.payment).await.unwrap().unwrap()
}

/// Does everything that an agent does to a payment, with the agent's own login.
pub(crate) async fn goes_all_the_way(ledger: &Ledger, shop: &Shop, order: OrderId) {
    let mut asked = pay(shop, "p", order);
    asked.charge.amount = krw(2 * PRICE + 3_000);
    let payment = begun(ledger, &asked).await;
    told(ledger, &payment, nothing(seconds(600))).await;
    assert!(ledger.hint_payment(order, Duration::ZERO).await.unwrap());
    assert_eq!(ledger.take_due_payments(seconds(1), 10).await.unwrap().len(), 1);
    let again = ledger.begin_again(order, payment.charge.payment, seconds(60)).await.unwrap().unwrap();
    let payment = told(ledger, &again, ReportedOutcome::Done).await;
    let asked = refund(shop, "r", &payment, 1_000);
    let Begun::New((_, id)) = ledger.begin_refund(&asked, Duration::ZERO).await.unwrap() else {
        panic!("the request is not new")
    };
    assert_eq!(ledger.take_due_refunds(seconds(60), 10).await.unwrap().len(), 1);
    let stands = refund_told(ledger, &payment, id, ReportedOutcome::Done).await;
    assert_eq!((stands.state, stands.refunded), (PaymentState::PartiallyRefunded, 1_000));
    assert_eq!(ledger.payments(false, 10).await.unwrap().len(), 1);
    assert_eq!(ledger.doubt().await.unwrap(), Doubt::default());
}

pub(crate) async fn an_attempt_is_durable_before_the_gateway_is_asked_and_found_later(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let asked = pay(&shop, "p", order);
    let payment = begun(ledger, &asked).await;
    assert_eq!(payment.state, PaymentState::Confirming);
    assert_eq!(read(&database.second_agent().await, &payment).await, payment);
    let id = payment.charge.payment;
    let found = ledger.look_up_payment(&shop.brand, order, id, None).await.unwrap();
    assert_eq!(found, Some(payment.clone()));
    let other_id = PaymentId::from_uuid(order_id().as_uuid()).unwrap();
    let by_key = ledger.look_up_payment(&shop.brand, order, other_id, Some(asked.key)).await.unwrap();
    assert_eq!(by_key, Some(payment), "the key finds the payment, whatever payment id the caller gives");
    assert_eq!(ledger.look_up_payment(&shop.brand, order, other_id, None).await.unwrap(), None);
    let stranger = Brand::new("other").unwrap();
    assert_eq!(ledger.look_up_payment(&stranger, order, id, None).await.unwrap(), None);
}

pub(crate) async fn a_payment_must_be_of_its_order_s_amount_and_currency(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let usd = Money::new(TOTAL, Currency::new("USD").unwrap()).unwrap();
    for (key, amount) in [("a", krw(TOTAL - 1)), ("b", krw(TOTAL + 1)), ("c", usd)] {
        let mut asked = pay(&shop, key, order);
        asked.charge.amount = amount;
        assert_eq!(begin(&database.ledger, &asked).await, Begun::Refused(Refusal::WrongAmount), "{amount}");
    }
    begun(&database.ledger, &pay(&shop, "a", order)).await;
}

pub(crate) async fn a_cancelled_rejected_unknown_or_other_brands_order_cannot_be_paid(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let sold_out = shop.place("too many", &[("A", 1_000)]);
    commit_one(ledger, sold_out.clone()).await;
    let other = Shop::open(ledger, "other", &[("A", 1)]).await;
    assert_eq!(begin(ledger, &pay(&other, "a", order)).await, Begun::Refused(Refusal::NotFound));
    assert_eq!(begin(ledger, &pay(&shop, "b", order_id())).await, Begun::Refused(Refusal::NotFound));
    let of_sold_out = pay(&shop, "c", order_of(&sold_out));
    assert_eq!(begin(ledger, &of_sold_out).await, Begun::Refused(Refusal::OrderNotPayable));
    cancel(ledger, &shop, order).await;
    assert_eq!(begin(ledger, &pay(&shop, "d", order)).await, Begun::Refused(Refusal::OrderNotPayable));
    assert_eq!(ledger.payments(false, 10).await.unwrap(), []);
}

pub(crate) async fn an_order_is_charged_once_under_any_number_of_keys(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = begun(ledger, &pay(&shop, "a", order)).await;
    let in_progress = Begun::InTheWay(Refusal::PaymentInProgress, payment.charge.payment);
    let paid = Begun::InTheWay(Refusal::AlreadyPaid, payment.charge.payment);
    assert_eq!(begin(ledger, &pay(&shop, "b", order)).await, in_progress);
    told(ledger, &payment, nothing(seconds(1))).await;
    assert_eq!(begin(ledger, &pay(&shop, "b", order)).await, in_progress, "an unknown payment may be paid");
    told(ledger, &payment, ReportedOutcome::Done).await;
    assert_eq!(begin(ledger, &pay(&shop, "b", order)).await, paid);
    let (_, id) = begin_refund(ledger, &refund(&shop, "r", &payment, TOTAL)).await.unwrap();
    assert_eq!(refund_told(ledger, &payment, id, ReportedOutcome::Done).await.state, PaymentState::Refunded);
    assert_eq!(begin(ledger, &pay(&shop, "b", order)).await, paid);
    let sums = Sums { charged: TOTAL, refunded: TOTAL, payments: 1 };
    assert_eq!(ledger.payment_sums().await.unwrap(), sums);
}

pub(crate) async fn two_payments_at_once_under_two_keys_are_one(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let (one, two) = (database.second_agent().await, database.second_agent().await);
    for round in 0..20 {
        let order =
            if round == 0 { order } else { another_order(database, &shop, &format!("k{round}")).await };
        let [a, b] = ["a", "b"].map(|key| pay(&shop, &format!("{key}{round}"), order));
        let (a, b) = tokio::join!(begin(&one, &a), begin(&two, &b));
        let ((Begun::New(first), other) | (other, Begun::New(first))) = (a, b) else {
            panic!("neither payment is new")
        };
        assert_eq!(other, Begun::InTheWay(Refusal::PaymentInProgress, first.charge.payment));
    }
}

pub(crate) async fn after_a_decline_the_order_can_be_paid_again(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let first = begun(ledger, &pay(&shop, "a", order)).await;
    let first = told(ledger, &first, declined()).await;
    assert_eq!(
        (first.state, first.code.as_ref().unwrap().as_str()),
        (PaymentState::Declined, "REJECT_CARD_COMPANY")
    );
    assert_eq!(
        begin(ledger, &pay(&shop, "a", order)).await,
        Begun::Known(first),
        "a declined key stays declined"
    );
    paid(ledger, &shop, "b", order).await;
}

pub(crate) async fn the_same_key_again_is_told_how_the_payment_stands(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = begun(ledger, &pay(&shop, "a", order)).await;
    let again = pay(&shop, "a", order);
    assert_ne!(again.charge.payment, payment.charge.payment, "a second attempt has a new payment id");
    assert_eq!(begin(ledger, &again).await, Begun::Known(payment.clone()));
    let payment = told(ledger, &payment, ReportedOutcome::Done).await;
    assert_eq!(begin(ledger, &again).await, Begun::Known(payment.clone()));
    let asked = refund(&shop, "r", &payment, 1_000);
    let (_, first) = begin_refund(ledger, &asked).await.unwrap();
    let again = refund(&shop, "r", &payment, 1_000);
    let Begun::Known((payment, known)) = ledger.begin_refund(&again, seconds(60)).await.unwrap() else {
        panic!("the refund is not known")
    };
    assert_eq!((known, payment.refunds.len()), (first, 1));
}

pub(crate) async fn the_same_key_with_another_body_or_for_a_refund_is_refused(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = paid(ledger, &shop, "a", order).await;
    let reused = Begun::Refused(Refusal::KeyReused);
    let other = ChargeRequest { fingerprint: [9; 32], ..pay(&shop, "a", order) };
    assert_eq!(begin(ledger, &other).await, reused);
    let other_order = another_order(database, &shop, "k2").await;
    let other = ChargeRequest { fingerprint: [9; 32], ..pay(&shop, "a", other_order) };
    assert_eq!(begin(ledger, &other).await, reused);
    let of_payment = refund(&shop, "a", &payment, 1);
    assert_eq!(begin_refund(ledger, &of_payment).await.unwrap_err(), Refusal::KeyReused);
    begin_refund(ledger, &refund(&shop, "r", &payment, 1)).await.unwrap();
    let larger = GiveBackRequest { fingerprint: [9; 32], ..refund(&shop, "r", &payment, 2) };
    assert_eq!(begin_refund(ledger, &larger).await.unwrap_err(), Refusal::KeyReused);
}

pub(crate) async fn refunds_never_exceed_what_was_paid(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = begun(ledger, &pay(&shop, "a", order)).await;
    let too_large = Err(Refusal::RefundTooLarge);
    let early = begin_refund(ledger, &refund(&shop, "r0", &payment, 1)).await;
    assert_eq!(early, Err(Refusal::PaymentInProgress), "the payment may not be paid yet");
    let payment = told(ledger, &payment, ReportedOutcome::Done).await;
    assert_eq!(begin_refund(ledger, &refund(&shop, "r1", &payment, TOTAL + 1)).await, too_large);
    let (_, part) = begin_refund(ledger, &refund(&shop, "r2", &payment, 1_000)).await.unwrap();
    let rest = refund(&shop, "r3", &payment, TOTAL - 999);
    assert_eq!(begin_refund(ledger, &rest).await, too_large, "refunds under way count");
    let stands = refund_told(ledger, &payment, part, ReportedOutcome::Done).await;
    assert_eq!((stands.state, stands.refunded), (PaymentState::PartiallyRefunded, 1_000));
    assert_eq!(begin_refund(ledger, &rest).await, too_large);
    let (_, rest) = begin_refund(ledger, &refund(&shop, "r4", &payment, TOTAL - 1_000)).await.unwrap();
    let stands = refund_told(ledger, &payment, rest, ReportedOutcome::Done).await;
    assert_eq!((stands.state, stands.refunded, stands.left()), (PaymentState::Refunded, TOTAL, 0));
    assert_eq!(read(ledger, &payment).await, stands);
    let stranger = GiveBackRequest { order: order_id(), ..refund(&shop, "r5", &payment, 1) };
    assert_eq!(begin_refund(ledger, &stranger).await, Err(Refusal::NotFound));
}

pub(crate) async fn refunds_at_once_never_exceed_what_was_paid(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let payment = paid(&database.ledger, &shop, "a", order).await;
    let (one, two) = (database.second_agent().await, database.second_agent().await);
    let asked: Vec<_> = (0..8).map(|n| refund(&shop, &format!("r{n}"), &payment, TOTAL / 3)).collect();
    let mut accepted = 0;
    for pair in asked.chunks(2) {
        let (a, b) = tokio::join!(begin_refund(&one, &pair[0]), begin_refund(&two, &pair[1]));
        accepted += usize::from(a.is_ok()) + usize::from(b.is_ok());
    }
    assert_eq!(accepted, 3);
    assert!(read(&one, &payment).await.left() >= 0);
}

pub(crate) async fn a_refused_refund_leaves_its_money_to_be_refunded(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = paid(ledger, &shop, "a", order).await;
    let (_, id) = begin_refund(ledger, &refund(&shop, "r1", &payment, TOTAL)).await.unwrap();
    let unknown = refund_told(ledger, &payment, id, nothing(seconds(1))).await;
    assert_eq!((unknown.refunds[0].state, unknown.left()), (RefundState::Unknown, 0));
    let refused = refund_told(ledger, &payment, id, declined()).await;
    assert_eq!((refused.refunds[0].state, refused.left()), (RefundState::Refused, TOTAL));
    assert_eq!(refused.state, PaymentState::Paid);
    begin_refund(ledger, &refund(&shop, "r2", &payment, TOTAL)).await.unwrap();
}

pub(crate) async fn cancelling_a_paid_order_gives_back_what_is_left(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = paid(ledger, &shop, "a", order).await;
    let (_, part) = begin_refund(ledger, &refund(&shop, "r", &payment, 1_000)).await.unwrap();
    cancel(ledger, &shop, order).await;
    let stands = read(ledger, &payment).await;
    let automatic = stands.refunds.iter().find(|refund| refund.automatic).unwrap();
    assert_eq!(
        (automatic.amount, automatic.refund),
        (TOTAL - 1_000, RefundId::automatic(payment.charge.payment, 0))
    );
    let due = ledger.take_due_refunds(seconds(30), 10).await.unwrap();
    let due: Vec<_> = due.iter().map(|due| (due.give_back.refund, due.give_back.amount)).collect();
    assert_eq!(due, [(automatic.refund, krw(TOTAL - 1_000))], "only the automatic refund is due at once");
    // The refund that was under way is refused, so its amount goes back as well.
    let stands = refund_told(ledger, &payment, part, declined()).await;
    assert_eq!((stands.left(), stands.refunds.len()), (0, 3));
}

pub(crate) async fn money_that_comes_in_after_the_cancellation_goes_back(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = begun(ledger, &pay(&shop, "a", order)).await;
    cancel(ledger, &shop, order).await;
    let unknown = told(ledger, &payment, nothing(Duration::ZERO)).await;
    assert_eq!(unknown.refunds, [], "no money is known to have moved");
    let due = ledger.take_due_payments(seconds(30), 10).await.unwrap();
    assert!(matches!(due.as_slice(), [due] if !due.order_stands), "{due:?}");
    let stands = told(ledger, &payment, ReportedOutcome::Done).await;
    assert_eq!((stands.state, stands.left(), stands.refunds.len()), (PaymentState::Paid, 0, 1));
    let automatic = &stands.refunds[0];
    let ended = refund_told(ledger, &payment, automatic.refund, ReportedOutcome::Done).await;
    assert_eq!(ended.state, PaymentState::Refunded);
    assert_eq!(
        told(ledger, &payment, ReportedOutcome::Done).await,
        ended,
        "a repeated answer refunds the money once"
    );
}

pub(crate) async fn what_is_due_is_taken_by_one_agent_alone(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let mut orders = vec![order];
    for n in 0..19 {
        orders.push(another_order(database, &shop, &format!("k{n}")).await);
    }
    for order in &orders {
        let asked = pay(&shop, &order.to_string(), *order);
        database.ledger.begin_payment(&asked, Duration::ZERO).await.unwrap();
    }
    let (one, two) = (database.second_agent().await, database.second_agent().await);
    let hold = seconds(30);
    let mut taken = Vec::new();
    for _ in 0..10 {
        let (a, b) = tokio::join!(one.take_due_payments(hold, 3), two.take_due_payments(hold, 3));
        taken.extend(a.unwrap().into_iter().chain(b.unwrap()));
    }
    assert!(taken.iter().all(|due| due.order_stands && due.payment.asks == 1));
    let mut of: Vec<OrderId> = taken.iter().map(|due| due.payment.charge.order).collect();
    of.sort_unstable();
    orders.sort_unstable();
    assert_eq!(of, orders, "each payment is taken once");
}

pub(crate) async fn a_hint_makes_a_doubt_due_at_once_and_nothing_else(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    assert!(!ledger.hint_payment(order, Duration::ZERO).await.unwrap(), "the payment is not in doubt");
    let payment = begun(ledger, &pay(&shop, "a", order)).await;
    assert!(
        !ledger.hint_payment(order, Duration::ZERO).await.unwrap(),
        "an agent is asking about the payment"
    );
    told(ledger, &payment, nothing(seconds(600))).await;
    let doubt = ledger.doubt().await.unwrap();
    assert!(doubt.count == 1 && doubt.oldest.is_some(), "{doubt:?}");
    assert!(ledger.take_due_payments(seconds(1), 10).await.unwrap().is_empty());
    assert!(ledger.hint_payment(order, Duration::ZERO).await.unwrap());
    assert_eq!(ledger.take_due_payments(seconds(1), 10).await.unwrap().len(), 1);
    assert!(!ledger.hint_payment(order_id(), Duration::ZERO).await.unwrap());
    let stands = told(ledger, &payment, ReportedOutcome::Done).await;
    assert!(!ledger.hint_payment(order, Duration::ZERO).await.unwrap());
    assert_eq!(read(ledger, &payment).await.state, stands.state);
    assert_eq!(ledger.doubt().await.unwrap(), Doubt::default());
}

pub(crate) async fn an_operator_s_word_ends_a_doubt_and_nothing_else(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = begun(ledger, &pay(&shop, "a", order)).await;
    assert_eq!(
        resolve(ledger, &payment, true).await,
        ResolveResult::Known,
        "an agent is asking about the payment"
    );
    told(ledger, &payment, nothing(seconds(1))).await;
    cancel(ledger, &shop, order).await;
    let stands = resolved(resolve(ledger, &payment, true).await);
    assert_eq!((stands.state, stands.code.as_ref().unwrap().as_str()), (PaymentState::Paid, "TICKET_4711"));
    assert!(
        stands.refunds[0].automatic && stands.left() == 0,
        "the order was cancelled meanwhile, so the money goes back"
    );
    assert_eq!(
        resolve(ledger, &payment, false).await,
        ResolveResult::Known,
        "the payment is no longer in doubt"
    );
    assert_eq!(read(ledger, &payment).await, stands);
}

pub(crate) async fn an_operators_decision_ends_a_refunds_doubt_and_nothing_else(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = paid(ledger, &shop, "a", order).await;
    let of = |payment: &Payment, refund| {
        let found = payment.refunds.iter().find(|known| known.refund == refund).cloned().unwrap();
        (found.state, found.code)
    };
    for (key, moved) in [("r1", false), ("r2", true)] {
        let (payment, refund) = begin_refund(ledger, &refund(&shop, key, &payment, 1)).await.unwrap();
        assert_eq!(
            resolve_refund(ledger, &payment, refund, true).await,
            ResolveResult::Known,
            "the refund is under way"
        );
        refund_told(ledger, &payment, refund, nothing(seconds(1))).await;
        none_is_on_its_way(database).await;
        let listed = ledger.payments(true, 10).await.unwrap();
        assert_eq!(listed, [read(ledger, &payment).await], "the list has the payment of a refund in doubt");
        let stands = resolved(resolve_refund(ledger, &payment, refund, moved).await);
        let state = if moved { RefundState::Done } else { RefundState::Refused };
        assert_eq!(of(&stands, refund), (state, ReasonCode::new("TICKET_4711")));
        assert_eq!(stands.refunded, if moved { 1 } else { 0 });
        assert_eq!(
            resolve_refund(ledger, &payment, refund, !moved).await,
            ResolveResult::Known,
            "the refund is no longer in doubt"
        );
        assert_eq!(read(ledger, &payment).await, stands);
        assert_eq!(ledger.payments(true, 10).await.unwrap(), []);
    }
    assert_eq!(read(ledger, &payment).await.state, PaymentState::PartiallyRefunded);
}

pub(crate) async fn what_contradicts_the_ledger_changes_nothing(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = paid(ledger, &shop, "a", order).await;
    for contradiction in [declined(), nothing(seconds(1))] {
        assert_eq!(told(ledger, &payment, contradiction).await, payment);
    }
    assert_eq!(read(ledger, &payment).await, payment);
}
