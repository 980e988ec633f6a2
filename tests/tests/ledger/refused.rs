//! Cases on either database about a refund that was refused after a doubt. Agents look at it, and
//! never request it again. It is done once the gateway shows that the money went back.

use std::time::Duration;

use bridge_idc::orders::store::Ledger;
use bridge_idc::payments::store::{
    Attempt, Concluded, Conclusion, PaymentLedger as _, ReportedOutcome, ResolveResult,
};
use bridge_idc::payments::{Payment, Refund};
use bridge_protocol::domain::{PaymentState, RefundId, RefundState};

use crate::database::Database;
use crate::money::to_be_back;
use crate::payments::{
    begin_refund, declined, nothing, paid, read, refund_told, resolve_refund, seconds, shop_with_order,
};
use crate::refunds::none_is_on_its_way;
use crate::shop::{Shop, TOTAL, refund};

/// Makes every planned look due.
async fn looks_are_due(database: &Database) {
    let due = "UPDATE refunds SET look_at = 1 WHERE look_at IS NOT NULL";
    database.run(due, due).await;
}

async fn taken(ledger: &Ledger) -> Vec<RefundId> {
    let taken = ledger.take_refused_refunds(seconds(60), 10).await.unwrap();
    taken.into_iter().map(|due| due.refund.refund).collect()
}

/// Looks at a refund. Returns the payment, and the outcome that was logged before the commit.
async fn looked(
    ledger: &Ledger,
    payment: &Payment,
    refund: RefundId,
    shown: Option<&[i64]>,
) -> (Payment, Option<&'static str>) {
    let (order, id) = (payment.charge.order, payment.charge.payment);
    let mut logged: Option<Conclusion> = None;
    loop {
        let attempt = ledger.look_at_refund(order, id, refund, shown, logged.as_ref()).await.unwrap();
        match attempt {
            Attempt::Committed(Concluded { payment, .. }) => {
                return (payment, logged.map(|logged| logged.outcome));
            }
            Attempt::ToLog(conclusion) => logged = Some(conclusion),
        }
    }
}

/// Makes a refund that an operator called refused after a doubt.
async fn called_refused(
    database: &Database,
    shop: &Shop,
    key: &str,
    payment: &Payment,
    amount: i64,
) -> RefundId {
    let ledger = &database.ledger;
    let (_, id) = begin_refund(ledger, &refund(shop, key, payment, amount)).await.unwrap();
    refund_told(ledger, payment, id, nothing(Duration::ZERO)).await;
    none_is_on_its_way(database).await;
    let resolved = resolve_refund(ledger, payment, id, false).await;
    assert!(matches!(resolved, ResolveResult::Stands(_)), "{resolved:?}");
    id
}

fn state(payment: &Payment, refund: RefundId) -> RefundState {
    payment.refund(refund).unwrap().state
}

pub(crate) async fn a_refused_refund_that_the_gateway_shows_is_done(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = paid(ledger, &shop, "a", order).await;
    let id = called_refused(database, &shop, "r", &payment, 1_000).await;
    assert_eq!(taken(ledger).await, [], "no look is due directly after the refusal");
    looks_are_due(database).await;
    assert_eq!(taken(ledger).await, [id]);
    assert_eq!(taken(&database.second_agent().await).await, [], "the first agent has taken the refund");
    assert_eq!(
        ledger.take_due_refunds(Duration::ZERO, 10).await.unwrap(),
        [],
        "a refused refund is not requested again"
    );
    for shown in [None, Some(&[][..]), Some(&[999]), Some(&[TOTAL])] {
        let (stands, logged) = looked(ledger, &payment, id, shown).await;
        assert_eq!((state(&stands, id), logged), (RefundState::Refused, None), "{shown:?}");
    }
    assert_eq!(taken(ledger).await, [], "no look is due directly after another look");
    looks_are_due(database).await;
    assert_eq!(taken(ledger).await, [id]);

    let (stands, logged) = looked(ledger, &payment, id, Some(&[1_000])).await;
    assert_eq!((state(&stands, id), logged), (RefundState::Done, Some("done")));
    assert_eq!((stands.state, stands.refunded), (PaymentState::PartiallyRefunded, 1_000));
    let Refund { code, concluded_at, .. } = stands.refund(id).unwrap();
    assert_eq!((code, *concluded_at), (&None, read(ledger, &payment).await.refunds[0].concluded_at));
    assert_eq!(
        looked(ledger, &payment, id, Some(&[1_000])).await,
        (stands, None),
        "a second look changes nothing"
    );
    looks_are_due(database).await;
    assert_eq!(taken(ledger).await, []);
}

/// The gateway names no refund, only amounts. So each amount counts for one refund, and nothing can
/// be decided while another refund is under way.
pub(crate) async fn what_the_gateway_shows_counts_for_one_refund_alone(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = paid(ledger, &shop, "a", order).await;
    let id = called_refused(database, &shop, "r", &payment, 1_000).await;
    let (_, another) = begin_refund(ledger, &refund(&shop, "r2", &payment, 1_000)).await.unwrap();
    let stands = async |shown: &[i64]| {
        let (stands, _) = looked(ledger, &payment, id, Some(shown)).await;
        (state(&stands, id), stands.refunded)
    };
    assert_eq!(stands(&[1_000]).await, (RefundState::Refused, 0), "the amount may be the other refund's");
    refund_told(ledger, &payment, another, ReportedOutcome::Done).await;
    assert_eq!(stands(&[1_000]).await, (RefundState::Refused, 1_000), "the amount is the other refund's");
    assert_eq!(stands(&[1_000, 1_000]).await, (RefundState::Done, 2_000), "both went back");

    // The ledger never records more as refunded than was paid, whatever a gateway shows.
    let left = TOTAL - 2_000;
    let id = called_refused(database, &shop, "r3", &payment, left).await;
    let (_, rest) = begin_refund(ledger, &refund(&shop, "r4", &payment, left)).await.unwrap();
    refund_told(ledger, &payment, rest, ReportedOutcome::Done).await;
    let (stands, _) = looked(ledger, &payment, id, Some(&[left, left])).await;
    assert_eq!((state(&stands, id), stands.refunded), (RefundState::Refused, TOTAL));
}

pub(crate) async fn a_refused_refund_is_looked_at_after_a_doubt_for_a_week(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = paid(ledger, &shop, "a", order).await;
    let (_, at_once) = begin_refund(ledger, &refund(&shop, "r", &payment, 1)).await.unwrap();
    refund_told(ledger, &payment, at_once, declined()).await;
    looks_are_due(database).await;
    assert_eq!(taken(ledger).await, [], "no earlier request can still arrive");
    // The agent died, and another agent sends the request again.
    let (_, died) = begin_refund(ledger, &refund(&shop, "r2", &payment, 2)).await.unwrap();
    let due = "UPDATE refunds SET next_ask_at = 0 WHERE next_ask_at IS NOT NULL";
    database.run(due, due).await;
    assert_eq!(ledger.take_due_refunds(Duration::ZERO, 10).await.unwrap().len(), 1);
    refund_told(ledger, &payment, died, declined()).await;
    looks_are_due(database).await;
    assert_eq!(taken(ledger).await, [died]);

    let long_ago = "UPDATE refunds SET concluded_at = 1";
    database.run(long_ago, long_ago).await;
    looked(ledger, &payment, died, Some(&[])).await;
    assert_eq!(database.count("SELECT count(*) FROM refunds WHERE look_at IS NOT NULL").await, 0);
}

pub(crate) async fn an_automatic_refund_that_went_back_after_all_ends_its_payment(database: &Database) {
    let (shop, _) = shop_with_order(database).await;
    let ledger = &database.ledger;
    for late in [false, true] {
        let payment = to_be_back(database, &shop, late).await;
        let id = payment.refunds[0].refund;
        assert_eq!(ledger.take_due_refunds(Duration::ZERO, 10).await.unwrap().len(), 1);
        refund_told(ledger, &payment, id, nothing(Duration::ZERO)).await;
        assert_eq!(ledger.take_due_refunds(Duration::ZERO, 10).await.unwrap().len(), 1);
        refund_told(ledger, &payment, id, declined()).await;
        looks_are_due(database).await;
        assert_eq!(taken(ledger).await, [id]);
        let (stands, logged) = looked(ledger, &payment, id, Some(&[TOTAL])).await;
        let (state, code) =
            if late { (PaymentState::Returned, "returned") } else { (PaymentState::Refunded, "refunded") };
        assert_eq!((stands.state, stands.refunded, logged), (state, TOTAL, Some(code)));
        assert_eq!(ledger.payments(true, 10).await.unwrap(), [], "the payment needs no operator");
    }
}

/// An older agent does not know the column `look_at`. A refund that it refuses after a doubt is
/// looked at all the same.
pub(crate) async fn a_refund_refused_by_an_older_agent_is_looked_at(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = paid(ledger, &shop, "a", order).await;
    let (_, in_doubt) = begin_refund(ledger, &refund(&shop, "r", &payment, 1)).await.unwrap();
    refund_told(ledger, &payment, in_doubt, nothing(Duration::ZERO)).await;
    begin_refund(ledger, &refund(&shop, "r2", &payment, 2)).await.unwrap();
    let refuses = "UPDATE refunds SET state = 'refused', code = 'T', next_ask_at = NULL, concluded_at = 7";
    database.run(refuses, refuses).await;
    let later = "SELECT count(*) FROM refunds WHERE look_at = 600000007";
    assert_eq!(database.count(later).await, 1, "only the refund in doubt is looked at");
    looks_are_due(database).await;
    assert_eq!(taken(ledger).await, [in_doubt]);
}
