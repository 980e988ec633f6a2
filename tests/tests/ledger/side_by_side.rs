//! Cases about agents of two versions on one ledger. The statements of earlier versions do no harm
//! to payments, and this version takes up what they left.

use std::time::Duration;

use bridge_idc::orders::store::Ledger;
use bridge_idc::payments::Payment;
use bridge_idc::payments::store::{PaymentLedger as _, ReportedOutcome, ResolveResult};
use bridge_protocol::domain::{OrderId, PaymentState, ReasonCode, RefundId, UnixMicros};

use crate::database::Database;
use crate::payments::{
    another_order, begin_refund, begun, cancel, declined, found, nothing, paid, read, resolve_refund,
    seconds, shop_with_order, told,
};
use crate::refunds::none_is_on_its_way;
use crate::shop::{TOTAL, order_id, pay, refund};

/// An agent of version 4 or 5 takes each payment with a due `next_ask_at`, asks the gateway about
/// it, and may charge it again.
const TAKE: [&str; 2] = [
    "UPDATE payments SET next_ask_at = 9000000000000000, asks = asks + 1 WHERE payment_id IN ( \
     SELECT payment_id FROM payments WHERE next_ask_at <= 8000000000000000 ORDER BY next_ask_at LIMIT 100 \
     FOR UPDATE SKIP LOCKED)",
    "UPDATE payments SET next_ask_at = 9000000000000000, asks = asks + 1 WHERE payment_id IN ( \
     SELECT payment_id FROM payments WHERE next_ask_at <= 8000000000000000 ORDER BY next_ask_at LIMIT 100)",
];

/// Statement of version 5 after a look at a given-up payment that found nothing new.
const LOOKED_AT: &str = "UPDATE payments SET state = 'not_paid', refunded = 0, code = coalesce(NULL, code), \
     next_ask_at = 1, concluded_at = coalesce(concluded_at, 2), confirm_until = 3";

/// Statement of version 5 after a look that found a charge.
const CHARGED_LATE: &str = "UPDATE payments SET state = 'charged_late', refunded = 0, code = coalesce(NULL, code), \
     next_ask_at = NULL, concluded_at = coalesce(concluded_at, 2), confirm_until = 3";

async fn by_an_agent_of_before(database: &Database, statement: &str) {
    database.run(statement, statement).await;
}

fn no_trace() -> ReportedOutcome {
    ReportedOutcome::NotDone(ReasonCode::new("NO_TRACE").unwrap())
}

async fn due(ledger: &Ledger) -> Vec<Payment> {
    let due = ledger.take_due_payments(Duration::ZERO, 10).await.unwrap();
    due.into_iter().map(|due| due.payment).collect()
}

/// Checks that an earlier version's agent does not take a payment which is due for a look, and that
/// this version's agent does.
async fn is_left_alone(database: &Database, given_up: &Payment) {
    let ledger = &database.ledger;
    assert!(given_up.state.is_given_up(), "{given_up:?}");
    assert!(ledger.hint_payment(given_up.charge.order, Duration::ZERO).await.unwrap());
    database.run(TAKE[0], TAKE[1]).await;
    assert_eq!(read(ledger, given_up).await, *given_up, "an earlier version's agent took the payment");
    let taken = due(ledger).await;
    assert!(
        taken.iter().any(|payment| payment.charge == given_up.charge),
        "this version's agent does not take the payment"
    );
}

pub(crate) async fn what_was_given_up_is_left_alone_by_agents_of_before(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = begun(ledger, &pay(&shop, "a", order)).await;
    told(ledger, &payment, nothing(seconds(600))).await;
    is_left_alone(database, &found(ledger, &payment, no_trace()).await).await;
    let order = another_order(database, &shop, "k2").await;
    let payment = begun(ledger, &pay(&shop, "b", order)).await;
    is_left_alone(database, &told(ledger, &payment, declined()).await).await;
}

pub(crate) async fn a_doubt_is_taken_by_agents_of_both_versions(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = begun(ledger, &pay(&shop, "a", order)).await;
    told(ledger, &payment, nothing(Duration::ZERO)).await;
    database.run(TAKE[0], TAKE[1]).await;
    assert_eq!(read(ledger, &payment).await.asks, 1);
    assert_eq!(due(ledger).await, [], "the other agent has the payment for now");
}

pub(crate) async fn what_version_5_writes_about_a_given_up_payment_is_taken_up(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = begun(ledger, &pay(&shop, "a", order)).await;
    told(ledger, &payment, nothing(seconds(600))).await;
    found(ledger, &payment, no_trace()).await;
    let looks = "SELECT count(*) FROM payments WHERE look_at IS NOT NULL AND next_ask_at IS NULL";

    by_an_agent_of_before(database, LOOKED_AT).await;
    let taken = due(ledger).await;
    assert_eq!(taken.iter().map(|payment| payment.state).collect::<Vec<_>>(), [PaymentState::NotPaid]);
    assert_eq!(
        found(ledger, &payment, no_trace()).await.state,
        PaymentState::NotPaid,
        "a payment that was given up is only looked at"
    );
    assert_eq!((database.count(looks).await, due(ledger).await), (1, vec![]));

    by_an_agent_of_before(database, LOOKED_AT).await;
    ledger.hint_payment(order, Duration::ZERO).await.unwrap();
    assert_eq!(
        (database.count(looks).await, due(ledger).await.len()),
        (1, 1),
        "a hint makes the payment due"
    );

    by_an_agent_of_before(database, CHARGED_LATE).await;
    assert_eq!(due(ledger).await, [], "the payment is no longer given up");
    assert_eq!(read(ledger, &payment).await.state, PaymentState::ChargedLate);
}

pub(crate) async fn what_version_4_begins_is_concluded_by_this_one(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    // Version 4 writes the row without the columns `confirm_until` and `look_at`, which it does not
    // know.
    let id = order_id();
    let key: String = shop.key("p").as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let begin = |payment: String, order: String, key: String| {
        format!(
            "INSERT INTO payment_requests (key, fingerprint, payment_id, refund_id) \
             VALUES ({key}, {key}, {payment}, NULL); \
             INSERT INTO payments (payment_id, brand, order_id, amount, currency, payment_key, state, next_ask_at, \
             created_at) VALUES ({payment}, 'acme', {order}, {TOTAL}, 'KRW', 'tgen', 'confirming', 1, 1)"
        )
    };
    let blob = |id: OrderId| format!("x'{}'", id.as_uuid().simple());
    let postgres = begin(format!("'{id}'"), format!("'{order}'"), format!("'\\x{key}'"));
    let sqlite = begin(blob(id), blob(order), format!("x'{key}'"));
    database.run(&postgres, &sqlite).await;
    let taken = due(ledger).await;
    assert_eq!(taken.iter().map(|payment| payment.state).collect::<Vec<_>>(), [PaymentState::Confirming]);
    let stands = found(ledger, &taken[0], ReportedOutcome::Done).await;
    assert_eq!((stands.state, due(ledger).await), (PaymentState::Paid, vec![]));
}

/// SQL that restores the payments' tables of version 5, for PostgreSQL and for SQLite.
const VERSION_5: [&str; 2] = [
    concat!(
        "DROP TABLE refunds; DROP TABLE payments; DROP TABLE payment_requests; DROP TABLE key_checks; ",
        include_str!("../../../bridge-idc/src/database/migrations/postgres/0003_payments.sql"),
        include_str!("../../../bridge-idc/src/database/migrations/postgres/0004_requests_of_payment.sql"),
        include_str!("../../../bridge-idc/src/database/migrations/postgres/0005_charged_late.sql"),
        "DELETE FROM schema_migrations WHERE version BETWEEN 6 AND 9;",
    ),
    concat!(
        "DROP TABLE refunds; DROP TABLE payments; DROP TABLE payment_requests; DROP TABLE key_checks; ",
        include_str!("../../../bridge-idc/src/database/migrations/sqlite/0003_payments.sql"),
        include_str!("../../../bridge-idc/src/database/migrations/sqlite/0004_requests_of_payment.sql"),
        include_str!("../../../bridge-idc/src/database/migrations/sqlite/0005_charged_late.sql"),
        "DELETE FROM schema_migrations WHERE version BETWEEN 6 AND 9;",
    ),
];

pub(crate) async fn what_version_5_kept_beside_doubts_moves_to_its_own_column(database: &Database) {
    let (_, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    database.run(VERSION_5[0], VERSION_5[1]).await;
    let ids: Vec<OrderId> = (0..2).map(|_| order_id()).collect();
    let write = |id: fn(OrderId) -> String| {
        let [order, given_up, doubt] = [order, ids[0], ids[1]].map(id);
        format!(
            "INSERT INTO payments (payment_id, brand, order_id, amount, currency, payment_key, state, next_ask_at, \
             created_at, concluded_at) VALUES \
             ({given_up}, 'acme', {order}, {TOTAL}, 'KRW', 'tgen', 'not_paid', 7, 1, 2), \
             ({doubt}, 'acme', {order}, {TOTAL}, 'KRW', 'tgen', 'unknown', 8, 3, NULL)"
        )
    };
    let sqlite = write(|id| format!("x'{}'", id.as_uuid().simple()));
    database.run(&write(|id| format!("'{id}'")), &sqlite).await;
    assert_eq!(ledger.migrate().await.unwrap().len(), 4);
    ledger.ready().await.unwrap();
    let moved = "SELECT count(*) FROM payments WHERE (state = 'not_paid' AND look_at = 7 AND next_ask_at IS NULL) \
                 OR (state = 'unknown' AND look_at IS NULL AND next_ask_at = 8)";
    assert_eq!(database.count(moved).await, 2);
    assert_eq!(due(ledger).await.len(), 2);
}

/// Statement of version 7 that takes a refund, in order to request it.
const TAKE_REFUND: &str = "UPDATE refunds SET next_ask_at = 8000000000000000, asks = asks + 1";

/// Returns version 7's statement that begins a refund and requests it.
fn begin_refund_of_before(refund: &str, payment: &str, not: &str) -> String {
    format!(
        "INSERT INTO refunds (refund_id, payment_id, amount, reason, automatic, state, next_ask_at, created_at) \
         VALUES ({refund}, {payment}, 1, 'it came back', {not}, 'confirming', 9000000000000000, 1)"
    )
}

/// Statement of version 7 after a request without an answer. The refund pauses.
const TOLD_NOTHING: &str =
    "UPDATE refunds SET state = 'unknown', code = NULL, next_ask_at = 1, concluded_at = NULL";

pub(crate) async fn a_refund_asked_by_an_older_agent_is_under_way(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = paid(ledger, &shop, "a", order).await;
    let (_, id) = begin_refund(ledger, &refund(&shop, "r", &payment, 1_000)).await.unwrap();
    by_an_agent_of_before(database, TOLD_NOTHING).await;
    none_is_on_its_way(database).await;
    for statement in [TAKE_REFUND, TOLD_NOTHING] {
        by_an_agent_of_before(database, statement).await;
    }
    let says = async |refund| resolve_refund(ledger, &payment, refund, false).await;
    assert_eq!(says(id).await, ResolveResult::OnItsWay(UnixMicros::new(8_000_000_000_000_000)));

    let begun = RefundId::from_uuid(order_id().as_uuid()).unwrap();
    let id = payment.charge.payment;
    let postgres = begin_refund_of_before(&format!("'{begun}'"), &format!("'{id}'"), "false");
    let blobs = [begun.as_uuid(), id.as_uuid()].map(|id| format!("x'{}'", id.simple()));
    let sqlite = begin_refund_of_before(&blobs[0], &blobs[1], "0");
    database.run(&postgres, &sqlite).await;
    by_an_agent_of_before(database, TOLD_NOTHING).await;
    assert_eq!(says(begun).await, ResolveResult::OnItsWay(UnixMicros::new(9_000_000_000_000_000)));

    // A refund is not on its way before it was requested.
    cancel(ledger, &shop, order).await;
    let stands = read(ledger, &payment).await;
    let automatic = stands.refunds.iter().find(|refund| refund.automatic).unwrap();
    assert_eq!(automatic.give_back_until, UnixMicros::new(0));
}

/// SQL that restores the refunds' table of version 7, for PostgreSQL and for SQLite.
const VERSION_7: [&str; 2] = [
    "DROP TRIGGER refunds_refused ON refunds; DROP INDEX refunds_refused_looks; \
     ALTER TABLE refunds DROP COLUMN look_at; \
     DROP TRIGGER refunds_begun ON refunds; DROP TRIGGER refunds_taken ON refunds; \
     ALTER TABLE refunds DROP COLUMN give_back_until; DELETE FROM schema_migrations WHERE version BETWEEN 8 AND 9;",
    "DROP TRIGGER refunds_refused; DROP INDEX refunds_refused_looks; ALTER TABLE refunds DROP COLUMN look_at; \
     DROP TRIGGER refunds_begun; DROP TRIGGER refunds_taken; \
     ALTER TABLE refunds DROP COLUMN give_back_until; DELETE FROM schema_migrations WHERE version BETWEEN 8 AND 9;",
];

pub(crate) async fn a_refund_by_an_older_agent_is_under_way_while_it_holds(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = paid(ledger, &shop, "a", order).await;
    for (key, amount) in [("r1", 1), ("r2", 2), ("r3", 3), ("r4", 4)] {
        begin_refund(ledger, &refund(&shop, key, &payment, amount)).await.unwrap();
    }
    database.run(VERSION_7[0], VERSION_7[1]).await;
    // The first refund is being requested, the second is to be requested again in a day, the third
    // was refused long ago, and the fourth was refused just now.
    let steps = "UPDATE refunds SET next_ask_at = created_at + 60000000; \
                 UPDATE refunds SET state = 'unknown', next_ask_at = created_at + 86400000000 WHERE amount = 2; \
                 UPDATE refunds SET state = 'refused', next_ask_at = NULL, concluded_at = 1 WHERE amount = 3; \
                 UPDATE refunds SET state = 'refused', next_ask_at = NULL, concluded_at = created_at WHERE amount = 4";
    database.run(steps, steps).await;
    assert_eq!(ledger.migrate().await.unwrap().len(), 2);
    ledger.ready().await.unwrap();
    let looks = "SELECT count(*) FROM refunds WHERE (amount = 4) = (look_at IS NOT NULL)";
    assert_eq!(database.count(looks).await, 4);
    let of = "SELECT count(*) FROM refunds WHERE (state = 'confirming' AND give_back_until = next_ask_at) \
              OR (state = 'unknown' AND give_back_until > created_at + 140000000 \
                  AND give_back_until < next_ask_at) \
              OR (state = 'refused' AND give_back_until = 0)";
    assert_eq!(database.count(of).await, 4);
}
