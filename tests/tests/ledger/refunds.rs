//! Cases on either database about a refund request on its way to the gateway. Meanwhile nobody may
//! say that nothing went back, since that amount could then be refunded a second time.

use std::time::Duration;

use bridge_idc::orders::store::Ledger;
use bridge_idc::payments::Payment;
use bridge_idc::payments::store::{
    Attempt, Begun, OperatorDecision, PaymentLedger as _, ReportedOutcome, ResolveResult,
};
use bridge_protocol::domain::{PaymentState, ReasonCode, RefundId, RefundState, UnixMicros};
use bridge_protocol::wire::order::Refusal;

use crate::database::{Database, postgres};
use crate::held::{psql, until_one_waits};
use crate::money::to_be_back;
use crate::payments::{
    begin_refund, cancel, declined, nothing, paid, read, refund_told, resolve_refund, resolve_rest, seconds,
    shop_with_order,
};
use crate::shop::{TOTAL, refund};

/// Ends the time in which refund requests may be on their way.
pub(crate) async fn none_is_on_its_way(database: &Database) {
    let over = "UPDATE refunds SET give_back_until = 1";
    database.run(over, over).await;
}

/// Returns the result that a refund request may be on its way, with its end.
async fn on_its_way(ledger: &Ledger, payment: &Payment, refund: RefundId) -> ResolveResult {
    ResolveResult::OnItsWay(read(ledger, payment).await.refund(refund).unwrap().give_back_until)
}

fn refused(resolved: ResolveResult, refund: RefundId) -> bool {
    let ResolveResult::Stands(payment) = resolved else { return false };
    payment.refund(refund).unwrap().state == RefundState::Refused
}

pub(crate) async fn not_refunded_is_never_said_while_a_request_is_under_way(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let other = database.second_agent().await;
    let payment = paid(ledger, &shop, "a", order).await;
    let (_, id) = begin_refund(ledger, &refund(&shop, "r", &payment, TOTAL)).await.unwrap();
    // The gateway did not answer in time. That proves nothing, since it may have received the
    // request.
    let stands = refund_told(ledger, &payment, id, nothing(Duration::ZERO)).await;
    let until = on_its_way(&other, &payment, id).await;
    assert_eq!(resolve_refund(&other, &payment, id, false).await, until);
    let reason = ReasonCode::new("TICKET_4711").unwrap();
    let verdict =
        OperatorDecision { moved: false, amount: None, reason: &reason, request_lasts: Duration::ZERO };
    let rehearsed = other.resolve_refund(order, payment.charge.payment, id, verdict, None).await;
    assert_eq!(rehearsed.unwrap(), Attempt::Committed(until), "no entry is to be logged either");
    assert_eq!(read(ledger, &payment).await, stands);
    let again = begin_refund(ledger, &refund(&shop, "r2", &payment, 1)).await;
    assert_eq!(again, Err(Refusal::RefundTooLarge), "another refund cannot use the amount");
    // The gateway has no trace of the refund. That proves as little.
    let no_trace = ReportedOutcome::NotDone(ReasonCode::new("NO_TRACE").unwrap());
    assert_eq!(refund_told(&other, &payment, id, no_trace).await.refunds[0].state, RefundState::Unknown);

    none_is_on_its_way(database).await;
    assert!(refused(resolve_refund(&other, &payment, id, false).await, id));
    begin_refund(ledger, &refund(&shop, "r2", &payment, TOTAL)).await.unwrap();
}

pub(crate) async fn a_refund_that_is_asked_for_again_is_on_its_way_again(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let (one, two) = (&database.ledger, database.second_agent().await);
    let payment = paid(one, &shop, "a", order).await;
    let asked = refund(&shop, "r", &payment, 1_000);
    let Begun::New((_, id)) = one.begin_refund(&asked, Duration::ZERO).await.unwrap() else {
        panic!("the request is not new")
    };
    refund_told(one, &payment, id, nothing(Duration::ZERO)).await;
    assert_eq!(two.take_due_refunds(seconds(60), 10).await.unwrap().len(), 1);
    let until = on_its_way(one, &payment, id).await;
    assert_eq!(resolve_refund(one, &payment, id, false).await, until);
    // The first agent gets a late answer to its own request. It has shorter times than the other
    // agent, so it sends another request.
    refund_told(one, &payment, id, nothing(Duration::ZERO)).await;
    assert_eq!(one.take_due_refunds(Duration::ZERO, 10).await.unwrap().len(), 1);
    assert_eq!(resolve_refund(one, &payment, id, false).await, until);
    // An operator may say at any time that the money went back, even while requests of killed
    // agents may be on their way.
    assert!(matches!(resolve_refund(one, &payment, id, true).await, ResolveResult::Stands(_)));
}

pub(crate) async fn money_that_goes_back_by_itself_goes_once_whatever_an_operator_says(database: &Database) {
    let (shop, _) = shop_with_order(database).await;
    let ledger = &database.ledger;
    for late in [false, true] {
        let payment = to_be_back(database, &shop, late).await;
        let id = payment.refunds[0].refund;
        assert_eq!(payment.refunds[0].give_back_until, UnixMicros::new(0), "no request was sent yet");
        assert_eq!(ledger.take_due_refunds(seconds(60), 10).await.unwrap().len(), 1);
        refund_told(ledger, &payment, id, nothing(Duration::ZERO)).await;
        let until = on_its_way(ledger, &payment, id).await;
        assert_eq!(resolve_refund(ledger, &payment, id, false).await, until);
        let shop_s = begin_refund(ledger, &refund(&shop, "shop's", &payment, 1)).await;
        assert_eq!(shop_s, Err(Refusal::RefundTooLarge));
        let ended = refund_told(ledger, &payment, id, ReportedOutcome::Done).await;
        let state = if late { PaymentState::Returned } else { PaymentState::Refunded };
        assert_eq!((ended.state, ended.refunded, ended.refunds.len()), (state, TOTAL, 1));
    }
}

/// A shop's refund is in doubt when the order is cancelled. Its amount goes back only after the
/// refund is known to be refused.
pub(crate) async fn the_rest_is_refunded_automatically_only_once_none_is_under_way(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = paid(ledger, &shop, "a", order).await;
    let (_, id) = begin_refund(ledger, &refund(&shop, "r", &payment, TOTAL)).await.unwrap();
    refund_told(ledger, &payment, id, nothing(seconds(600))).await;
    cancel(ledger, &shop, order).await;
    let until = on_its_way(ledger, &payment, id).await;
    assert_eq!(resolve_refund(ledger, &payment, id, false).await, until);
    assert_eq!(read(ledger, &payment).await.refunds.len(), 1);
    none_is_on_its_way(database).await;
    assert!(refused(resolve_refund(ledger, &payment, id, false).await, id));
    assert_eq!(read(ledger, &payment).await.refunds.len(), 2, "the automatic refund exists now");
}

pub(crate) async fn an_operator_ends_what_other_refunds_left_of_a_refused_one(database: &Database) {
    let (shop, _) = shop_with_order(database).await;
    let ledger = &database.ledger;
    for (late, key) in [(false, "r"), (true, "r2")] {
        let payment = to_be_back(database, &shop, late).await;
        let id = payment.refunds[0].refund;
        refund_told(ledger, &payment, id, declined()).await;
        let (_, part) = begin_refund(ledger, &refund(&shop, key, &payment, 1_000)).await.unwrap();
        let left = TOTAL - 1_000;
        let not_left = ResolveResult::NotLeft(left);
        assert_eq!(resolve_refund(ledger, &payment, id, true).await, not_left, "refunds under way count");
        refund_told(ledger, &payment, part, ReportedOutcome::Done).await;
        for wrong in [1, left - 1, left + 1, TOTAL + 1] {
            assert_eq!(resolve_rest(ledger, &payment, id, wrong).await, not_left, "{wrong}");
        }
        let ResolveResult::Stands(stands) = resolve_rest(ledger, &payment, id, left).await else {
            panic!("the doubt is not resolved")
        };
        let ended = if late { PaymentState::Returned } else { PaymentState::Refunded };
        assert_eq!((stands.state, stands.refunded, stands.left()), (ended, TOTAL, 0));
        let said = stands.refunds.iter().map(|refund| (refund.automatic, refund.state, refund.amount));
        let expected = [
            (true, RefundState::Refused, TOTAL),
            (false, RefundState::Done, 1_000),
            (true, RefundState::Done, left),
        ];
        assert_eq!(said.collect::<Vec<_>>(), expected, "the refused refund keeps its amount");
        assert_eq!(stands.refunds[2].code, ReasonCode::new("TICKET_4711"));
        assert_eq!(read(ledger, &payment).await, *stands);
        let again = resolve_rest(ledger, &payment, id, left).await;
        assert_eq!(again, ResolveResult::NotLeft(0), "a repeated decision counts once");
        assert_eq!(ledger.payments(true, 10).await.unwrap(), []);
        assert_eq!(ledger.take_due_refunds(Duration::ZERO, 10).await.unwrap(), [], "no refund is due");
    }
}

/// The audit log may need more time between the check of an operator's decision and its commit than
/// a refund request is on its way. The state at the commit counts.
pub(crate) async fn a_refund_taken_while_an_operators_decision_is_logged_is_under_way(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let (ledger, agent) = (&database.ledger, database.second_agent().await);
    let payment = paid(ledger, &shop, "a", order).await;
    let (_, id) = begin_refund(ledger, &refund(&shop, "r", &payment, 1_000)).await.unwrap();
    refund_told(ledger, &payment, id, nothing(Duration::ZERO)).await;
    none_is_on_its_way(database).await;
    let reason = ReasonCode::new("TICKET_4711").unwrap();
    let verdict =
        OperatorDecision { moved: false, amount: None, reason: &reason, request_lasts: Duration::ZERO };
    let of = payment.charge.payment;
    let rehearsed = ledger.resolve_refund(order, of, id, verdict, None).await.unwrap();
    let Attempt::ToLog(conclusion) = rehearsed else { panic!("{rehearsed:?}") };
    let does = async || {
        let attempt = ledger.resolve_refund(order, of, id, verdict, Some(&conclusion)).await.unwrap();
        let Attempt::Committed(resolved) = attempt else { panic!("{attempt:?}") };
        resolved
    };

    assert_eq!(agent.take_due_refunds(seconds(60), 10).await.unwrap().len(), 1);
    let stands = read(ledger, &payment).await;
    assert_eq!(does().await, on_its_way(ledger, &payment, id).await);
    assert_eq!(read(ledger, &payment).await, stands, "the decision changed the payment");
    // The second request is over as well before the audit log has the decision.
    none_is_on_its_way(database).await;
    assert!(refused(does().await, id));
}

/// An agent takes a refund without locking its order. Here this happens between the check of an
/// operator's decision and its write.
#[tokio::test]
async fn what_is_taken_while_an_operator_speaks_is_on_its_way() {
    let database = postgres("taken_while_spoken").await;
    let (shop, order) = shop_with_order(&database).await;
    let ledger = &database.ledger;
    let payment = paid(ledger, &shop, "a", order).await;
    let (_, id) = begin_refund(ledger, &refund(&shop, "r", &payment, 1_000)).await.unwrap();
    refund_told(ledger, &payment, id, nothing(seconds(600))).await;
    none_is_on_its_way(&database).await;
    let take = "UPDATE refunds SET asks = asks + 1, next_ask_at = 9000000000000000, give_back_until = 9000000000000000";
    let mut agent = psql(&database, take).await;
    let says = resolve_refund(ledger, &payment, id, false);
    let commits = async {
        until_one_waits(&database).await;
        sqlx::raw_sql("COMMIT").execute(&mut agent).await.unwrap();
    };
    let (said, ()) = tokio::join!(says, commits);
    assert_eq!(said, ResolveResult::OnItsWay(UnixMicros::new(9_000_000_000_000_000)));
    assert_eq!(read(ledger, &payment).await.refunds[0].state, RefundState::Unknown);
}
