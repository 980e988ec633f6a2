//! Cases about late charges on either database: money that moves after the payment was called not
//! paid. Only the agent that sent a charge request may call that request over.

use std::time::Duration;

use bridge_idc::orders::store::Ledger;
use bridge_idc::payments::store::{Begun, PaymentLedger as _, ReportedOutcome, ResolveResult, Sums};
use bridge_idc::payments::{ChargeRequest, Payment};
use bridge_protocol::domain::{OrderId, PaymentKey, PaymentState, ReasonCode, RefundId, RefundState};
use bridge_protocol::wire::order::Refusal;

use crate::database::Database;
use crate::payments::{
    another_order, begin, begin_refund, begun, cancel, declined, found, nothing, paid, read, refund_told,
    resolve, resolve_after, resolve_refund, seconds, shop_with_order, told,
};
use crate::refunds::none_is_on_its_way;
use crate::shop::{Shop, TOTAL, order_id, pay, refund};

fn no_trace() -> ReportedOutcome {
    ReportedOutcome::NotDone(ReasonCode::new("NO_TRACE").unwrap())
}

/// Makes a payment that the ledger calls not paid.
async fn given_up(ledger: &Ledger, shop: &Shop, key: &str, order: OrderId) -> Payment {
    let payment = begun(ledger, &pay(shop, key, order)).await;
    told(ledger, &payment, nothing(seconds(600))).await;
    let payment = found(ledger, &payment, no_trace()).await;
    assert_eq!(payment.state, PaymentState::NotPaid);
    payment
}

/// Returns the request of [`pay`] with another payment key.
fn pay_otherwise(shop: &Shop, key: &str, order: OrderId) -> ChargeRequest {
    let mut asked = pay(shop, key, order);
    asked.charge.payment_key = PaymentKey::new(&format!("tgen_{key}")).unwrap();
    asked
}

pub(crate) async fn a_charge_after_giving_up_is_late_and_refunded_once(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let (one, two) = (database.second_agent().await, database.second_agent().await);
    let refused = another_order(database, &shop, "k2").await;
    let refused = begun(ledger, &pay(&shop, "d", refused)).await;
    for payment in [given_up(ledger, &shop, "a", order).await, told(ledger, &refused, declined()).await] {
        let code = payment.code.clone();
        let (a, b) = tokio::join!(
            found(&one, &payment, ReportedOutcome::Done),
            told(&two, &payment, ReportedOutcome::Done)
        );
        let stands = read(ledger, &payment).await;
        assert_eq!((stands.state, &stands.code), (PaymentState::ChargedLate, &code));
        assert_eq!(
            (stands.refunds.len(), stands.left()),
            (1, 0),
            "the refund exists once, whichever agent learned of the charge: {a:?} {b:?}"
        );
        let automatic = RefundId::automatic(payment.charge.payment, 0);
        assert_eq!((stands.refunds[0].refund, stands.refunds[0].automatic), (automatic, true));
        assert_eq!(ledger.doubt().await.unwrap().charged_late, 1);
        assert_eq!(ledger.payments(true, 10).await.unwrap(), [stands]);
        let another =
            begin(ledger, &pay_otherwise(&shop, &format!("e{automatic}"), payment.charge.order)).await;
        assert_eq!(
            another,
            Begun::Refused(Refusal::OrderNotPayable),
            "the gateway would not charge it again"
        );
        let due = ledger.take_due_refunds(seconds(30), 10).await.unwrap();
        assert_eq!(due.iter().map(|due| due.give_back.refund).collect::<Vec<_>>(), [automatic], "at once");
        let ended = refund_told(&one, &payment, automatic, ReportedOutcome::Done).await;
        assert_eq!((ended.state, ended.refunded), (PaymentState::Returned, TOTAL));
        assert_eq!(refund_told(&two, &payment, automatic, ReportedOutcome::Done).await, ended);
        assert_eq!(
            found(ledger, &payment, ReportedOutcome::Done).await,
            ended,
            "a repeated answer refunds the money once"
        );
        assert_eq!(ledger.doubt().await.unwrap().charged_late, 0);
    }
    let sums = Sums { charged: 2 * TOTAL, refunded: 2 * TOTAL, payments: 2 };
    assert_eq!(ledger.payment_sums().await.unwrap(), sums);
}

pub(crate) async fn a_late_charge_touches_no_other_payment_of_its_order(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let late = given_up(ledger, &shop, "a", order).await;
    let other = begun(ledger, &pay_otherwise(&shop, "b", order)).await;
    let other = told(ledger, &other, ReportedOutcome::Done).await;
    let stands = found(ledger, &late, ReportedOutcome::Done).await;
    assert_eq!((stands.state, stands.refunds.len()), (PaymentState::ChargedLate, 1));
    assert_eq!(read(ledger, &other).await, other, "the other payment still pays for the order");
    let paid = Begun::InTheWay(Refusal::AlreadyPaid, other.charge.payment);
    assert_eq!(begin(ledger, &pay(&shop, "c", order)).await, paid);
    cancel(ledger, &shop, order).await;
    assert_eq!(read(ledger, &other).await.left(), 0, "a cancellation refunds the other payment as well");
    assert_eq!(read(ledger, &late).await.refunds.len(), 1);
}

pub(crate) async fn what_was_charged_by_one_token_is_one_payment_s(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let first = given_up(ledger, &shop, "a", order).await;
    let second = paid(ledger, &shop, "b", order).await;
    let stands = found(ledger, &first, ReportedOutcome::Done).await;
    assert_eq!(stands.state, PaymentState::NotPaid, "the charge belongs to the second payment");
    assert_eq!((stands.refunds.len(), read(ledger, &second).await), (0, second));
}

pub(crate) async fn not_paid_is_never_said_while_a_request_is_under_way(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let other = database.second_agent().await;
    let payment = begun(ledger, &pay(&shop, "a", order)).await;
    let stands = found(&other, &payment, no_trace()).await;
    assert_eq!(stands.state, PaymentState::Unknown);
    assert!(
        other.take_due_payments(seconds(1), 10).await.unwrap().is_empty(),
        "the payment is not due before the request is over"
    );
    let on_its_way = ResolveResult::OnItsWay(payment.confirm_until);
    assert_eq!(
        resolve(&other, &payment, false).await,
        on_its_way,
        "an operator cannot call the payment not paid either"
    );
    // The sending agent says that its request is over, and without an outcome. From then on the
    // agent may ask for the charge again, but the gateway may still be working on the request.
    let over = told(ledger, &payment, nothing(seconds(600))).await.confirm_until;
    assert!(over < payment.confirm_until);
    let still_working = ResolveResult::OnItsWay(over.plus(seconds(60)));
    assert_eq!(
        resolve_after(&other, &payment, false, seconds(60)).await,
        still_working,
        "an operator called the payment not paid while the gateway may be charging"
    );
    assert_eq!(read(ledger, &payment).await.state, PaymentState::Unknown);
    assert_eq!(found(&other, &payment, no_trace()).await.state, PaymentState::NotPaid);

    let order = another_order(database, &shop, "k2").await;
    let payment = begun(ledger, &pay(&shop, "b", order)).await;
    told(ledger, &payment, nothing(seconds(600))).await;
    let is_over = "UPDATE payments SET confirm_until = confirm_until - 60000000 WHERE state = 'unknown'";
    database.run(is_over, is_over).await;
    let stands = resolve_after(&other, &payment, false, seconds(60)).await;
    assert!(matches!(stands, ResolveResult::Stands(_)), "{stands:?}");
}

pub(crate) async fn a_request_is_said_to_be_over_by_who_sent_it_alone(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let other = database.second_agent().await;
    let Begun::New(first) = ledger.begin_payment(&pay(&shop, "a", order), Duration::ZERO).await.unwrap()
    else {
        panic!("the request is not new")
    };
    let id = first.charge.payment;
    let second = other.begin_again(order, id, seconds(60)).await.unwrap().unwrap();
    assert!(second.confirm_until > first.confirm_until);
    assert_eq!(
        ledger.begin_again(order, id, seconds(60)).await.unwrap(),
        None,
        "a second request began before the first was over"
    );
    let stands = told(ledger, &first, nothing(Duration::ZERO)).await;
    assert_eq!(stands.confirm_until, second.confirm_until);
    assert_eq!(found(ledger, &first, no_trace()).await.state, PaymentState::Unknown);
    let stands = told(&other, &second, nothing(Duration::ZERO)).await;
    assert!(stands.confirm_until < second.confirm_until);
    cancel(ledger, &shop, order).await;
    assert_eq!(
        other.begin_again(order, id, seconds(60)).await.unwrap(),
        None,
        "a request began for a cancelled order"
    );
    assert_eq!(found(ledger, &first, no_trace()).await.state, PaymentState::NotPaid);
}

pub(crate) async fn age_is_told_by_the_database_s_clock(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let asked = pay(&shop, "a", order);
    let Begun::New(payment) = ledger.begin_payment(&asked, Duration::ZERO).await.unwrap() else {
        panic!("the request is not new")
    };
    told(ledger, &payment, nothing(Duration::ZERO)).await;
    let hours = |count: u64| Duration::from_secs(3_600 * count);
    for (passed, at_least) in [(0, 0), (1, 1), (1, 2)] {
        let back =
            |column: &str| format!("UPDATE payments SET {column} = {column} - {}", hours(passed).as_micros());
        for column in ["created_at", "confirm_until", "next_ask_at"] {
            database.run(&back(column), &back(column)).await;
        }
        let due = database.second_agent().await.take_due_payments(Duration::ZERO, 10).await.unwrap();
        let (age, quiet) = (due[0].age, due[0].quiet);
        let expected = hours(at_least)..hours(at_least + 1);
        assert!(expected.contains(&age) && expected.contains(&quiet), "{age:?} {quiet:?}");
        assert!(age >= quiet);
        assert!(expected.contains(&ledger.doubt().await.unwrap().oldest.unwrap()));
    }
}

pub(crate) async fn a_payment_given_up_is_looked_at_again_sooner_by_a_hint(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = given_up(ledger, &shop, "a", order).await;
    let take = async || ledger.take_due_payments(Duration::ZERO, 10).await.unwrap();
    assert_eq!(take().await, [], "a payment is not looked at directly after it was given up");
    assert_eq!(database.count("SELECT count(*) FROM payments WHERE look_at IS NOT NULL").await, 1);
    assert!(ledger.hint_payment(order, Duration::ZERO).await.unwrap());
    let due = take().await;
    assert_eq!((due.len(), due[0].payment.state), (1, PaymentState::NotPaid));
    for nothing_new in [no_trace(), nothing(Duration::ZERO)] {
        let stands = found(ledger, &payment, nothing_new).await;
        assert_eq!((stands.state, &stands.code), (PaymentState::NotPaid, &payment.code));
        assert_eq!(take().await, [], "a payment is not looked at directly after another look");
    }
    assert_eq!(ledger.doubt().await.unwrap().count, 0);
    // A payment that the gateway declined is looked at again only after a hint.
    let order = another_order(database, &shop, "k2").await;
    let payment = begun(ledger, &pay(&shop, "b", order)).await;
    told(ledger, &payment, declined()).await;
    assert_eq!(database.count("SELECT count(*) FROM payments WHERE look_at IS NOT NULL").await, 1);
    assert!(ledger.hint_payment(order, Duration::ZERO).await.unwrap());
    assert_eq!(take().await.len(), 1);
    found(ledger, &payment, nothing(Duration::ZERO)).await;
    assert_eq!(take().await, []);
}

pub(crate) async fn a_refund_that_is_made_after_all_counts(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = paid(ledger, &shop, "a", order).await;
    let (_, id) = begin_refund(ledger, &refund(&shop, "r1", &payment, 1_000)).await.unwrap();
    refund_told(ledger, &payment, id, nothing(seconds(1))).await;
    none_is_on_its_way(database).await;
    assert!(matches!(resolve_refund(ledger, &payment, id, false).await, ResolveResult::Stands(_)));
    let stands = refund_told(ledger, &payment, id, ReportedOutcome::Done).await;
    assert_eq!((stands.refunds[0].state, stands.refunded), (RefundState::Done, 1_000));
    assert_eq!((stands.state, stands.left()), (PaymentState::PartiallyRefunded, TOTAL - 1_000));
    assert_eq!(
        refund_told(ledger, &payment, id, ReportedOutcome::Done).await,
        stands,
        "the late answer counts once"
    );
}

/// SQL that restores the payments' tables of the version before late charges had a state, for
/// PostgreSQL and for SQLite.
const BEFORE: [&str; 2] = [
    concat!(
        "DROP TABLE refunds; DROP TABLE payments; DROP TABLE payment_requests; DROP TABLE key_checks; ",
        include_str!("../../../bridge-idc/src/database/migrations/postgres/0003_payments.sql"),
        include_str!("../../../bridge-idc/src/database/migrations/postgres/0004_requests_of_payment.sql"),
        "DELETE FROM schema_migrations WHERE version BETWEEN 5 AND 9;",
    ),
    concat!(
        "DROP TABLE refunds; DROP TABLE payments; DROP TABLE payment_requests; DROP TABLE key_checks; ",
        include_str!("../../../bridge-idc/src/database/migrations/sqlite/0003_payments.sql"),
        include_str!("../../../bridge-idc/src/database/migrations/sqlite/0004_requests_of_payment.sql"),
        "DELETE FROM schema_migrations WHERE version BETWEEN 5 AND 9;",
    ),
];

pub(crate) async fn what_the_version_before_wrote_stays_as_it_was(database: &Database) {
    let (_, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    database.run(BEFORE[0], BEFORE[1]).await;
    let ids: Vec<OrderId> = (0..3).map(|_| order_id()).collect();
    let write = |id: fn(OrderId) -> String, not: &str| {
        let [order, given_up, paid, refund] = [order, ids[0], ids[1], ids[2]].map(id);
        let row = |id: &str, state: &str, rest: &str| {
            format!("({id}, 'acme', {order}, {TOTAL}, 'KRW', 'tgen', '{state}', {rest})")
        };
        let rows = [
            row(&given_up, "not_paid", "0, 'NO_TRACE', 3, NULL, 1, 2"),
            row(&paid, "partially_refunded", "1000, NULL, 1, NULL, 3, 4"),
        ];
        format!(
            "INSERT INTO payments (payment_id, brand, order_id, amount, currency, payment_key, state, refunded, code, \
             asks, next_ask_at, created_at, concluded_at) VALUES {}; \
             INSERT INTO refunds (refund_id, payment_id, amount, reason, automatic, state, created_at, concluded_at) \
             VALUES ({refund}, {paid}, 1000, 'it came back', {not}, 'done', 5, 6)",
            rows.join(", "),
        )
    };
    let postgres = write(|id| format!("'{id}'"), "false");
    let sqlite = write(|id| format!("x'{}'", id.as_uuid().simple()), "0");
    database.run(&postgres, &sqlite).await;
    assert_eq!(ledger.migrate().await.unwrap().len(), 5);
    ledger.ready().await.unwrap();
    let stands = ledger.payments(false, 10).await.unwrap();
    let told: Vec<_> = stands.iter().map(|payment| (payment.state, payment.refunded, payment.asks)).collect();
    assert_eq!(told, [(PaymentState::PartiallyRefunded, 1_000, 1), (PaymentState::NotPaid, 0, 3)]);
    assert_eq!((stands[0].refunds.len(), stands[0].refunds[0].state), (1, RefundState::Done));
    assert_eq!(stands[0].left(), TOTAL - 1_000);
}
