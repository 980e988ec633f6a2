//! Cases on either database that keep the money of two brands apart, keep currencies apart, and
//! count a repeated message once.

use std::time::Duration;

use bridge_idc::orders::store::Ledger;
use bridge_idc::payments::store::{Begun, PaymentLedger as _, ReportedOutcome, ResolveResult};
use bridge_idc::payments::{GiveBackRequest, Payment};
use bridge_protocol::domain::{Currency, Money, PaymentState, ReasonCode, RefundState};
use bridge_protocol::wire::order::Refusal;

use crate::database::Database;
use crate::payments::{
    another_order, begin, begin_refund, begun, cancel, declined, found, nothing, paid, read, refund_told,
    resolve, resolve_refund, seconds, shop_with_order, told,
};
use crate::shop::{Shop, TOTAL, commit_one, krw, order_of, pay, refund};

/// Returns the amounts of the refunds that are due now.
async fn due_refunds(ledger: &Ledger) -> Vec<Money> {
    let due = ledger.take_due_refunds(Duration::ZERO, 10).await.unwrap();
    due.into_iter().map(|due| due.give_back.amount).collect()
}

pub(crate) async fn another_brand_neither_sees_nor_pays_nor_gives_back_a_payment(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let other = Shop::open(ledger, "other", &[("A", 5)]).await;
    let own = other.place("k", &[("A", 1)]);
    commit_one(ledger, own.clone()).await;
    let payment = paid(ledger, &shop, "a", order).await;

    let asked = refund(&other, "r", &payment, 1_000);
    assert_eq!(begin_refund(ledger, &asked).await, Err(Refusal::NotFound), "another brand's order");
    let by_its_own_order = GiveBackRequest { order: order_of(&own), ..asked.clone() };
    assert_eq!(
        begin_refund(ledger, &by_its_own_order).await,
        Err(Refusal::NotFound),
        "another brand's payment"
    );
    assert_eq!(begin(ledger, &pay(&other, "p", order)).await, Begun::Refused(Refusal::NotFound));
    let id = payment.charge.payment;
    let key = Some(shop.key("a"));
    for (brand, stands) in [(&other.brand, None), (&shop.brand, Some(payment.clone()))] {
        assert_eq!(ledger.look_up_payment(brand, order, id, None).await.unwrap(), stands);
        assert_eq!(ledger.look_up_payment(brand, order, id, key).await.unwrap(), stands, "looked up by key");
    }
    assert_eq!(read(ledger, &payment).await, payment, "another brand changed the payment");
    assert_eq!(due_refunds(ledger).await, []);

    // The refused requests did not use up the other brand's keys.
    let theirs = paid(ledger, &other, "r", order_of(&own)).await;
    begin_refund(ledger, &refund(&other, "p", &theirs, 1_000)).await.unwrap();
    begin_refund(ledger, &refund(&shop, "r", &payment, 1_000)).await.unwrap();
}

pub(crate) async fn nothing_is_given_back_in_another_currency(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = paid(ledger, &shop, "a", order).await;
    for currency in ["USD", "JPY"] {
        let amount = Money::new(1_000, Currency::new(currency).unwrap()).unwrap();
        let asked = GiveBackRequest { amount, ..refund(&shop, currency, &payment, 1) };
        assert_eq!(begin_refund(ledger, &asked).await, Err(Refusal::RefundTooLarge), "{amount}");
    }
    assert_eq!(read(ledger, &payment).await, payment);
    begin_refund(ledger, &refund(&shop, "USD", &payment, 1_000)).await.unwrap();
}

pub(crate) async fn a_partial_refund_that_is_told_twice_counts_once(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let (one, two) = (&database.ledger, database.second_agent().await);
    let payment = paid(one, &shop, "a", order).await;
    let (_, id) = begin_refund(one, &refund(&shop, "r", &payment, 1_000)).await.unwrap();
    let stands = refund_told(one, &payment, id, ReportedOutcome::Done).await;
    assert_eq!((stands.state, stands.refunded), (PaymentState::PartiallyRefunded, 1_000));
    for again in [ReportedOutcome::Done, nothing(Duration::ZERO), declined(), ReportedOutcome::Done] {
        assert_eq!(refund_told(&two, &payment, id, again.clone()).await, stands, "{again:?}");
    }
    assert_eq!(read(one, &payment).await, stands);
    assert_eq!(stands.left(), TOTAL - 1_000);
}

/// Makes a payment whose money must go back, with its automatic refund. Its order was cancelled, or
/// it was charged late.
pub(crate) async fn to_be_back(database: &Database, shop: &Shop, late: bool) -> Payment {
    let ledger = &database.ledger;
    let key = if late { "late" } else { "cancelled" };
    let order = another_order(database, shop, key).await;
    if !late {
        let payment = paid(ledger, shop, key, order).await;
        cancel(ledger, shop, order).await;
        return read(ledger, &payment).await;
    }
    let payment = begun(ledger, &pay(shop, key, order)).await;
    told(ledger, &payment, nothing(seconds(600))).await;
    let no_trace = ReportedOutcome::NotDone(ReasonCode::new("NO_TRACE").unwrap());
    assert_eq!(found(ledger, &payment, no_trace).await.state, PaymentState::NotPaid);
    found(ledger, &payment, ReportedOutcome::Done).await
}

pub(crate) async fn an_automatic_refund_that_the_gateway_refuses_is_asked_for_once(database: &Database) {
    let (shop, _) = shop_with_order(database).await;
    let ledger = &database.ledger;
    for late in [false, true] {
        let payment = to_be_back(database, &shop, late).await;
        assert_eq!(due_refunds(ledger).await, [krw(TOTAL)]);
        let stands = refund_told(ledger, &payment, payment.refunds[0].refund, declined()).await;
        assert_eq!((stands.refunds.len(), stands.refunds[0].state), (1, RefundState::Refused));
        assert_eq!((stands.state, stands.left()), (payment.state, TOTAL));
        assert_eq!(read(ledger, &payment).await, stands, "a second refund was made");
        assert_eq!(due_refunds(ledger).await, []);
    }
}

pub(crate) async fn an_operator_ends_a_refused_refund_that_was_repaid_otherwise(database: &Database) {
    let (shop, _) = shop_with_order(database).await;
    let ledger = &database.ledger;
    for late in [false, true] {
        let payment = to_be_back(database, &shop, late).await;
        let id = payment.refunds[0].refund;
        assert_eq!(
            resolve_refund(ledger, &payment, id, true).await,
            ResolveResult::Known,
            "a refund under way cannot be resolved"
        );
        let refused = refund_told(ledger, &payment, id, declined()).await;
        assert_eq!(
            ledger.payments(true, 10).await.unwrap(),
            [refused],
            "a refused refund is listed for an operator"
        );
        assert_eq!(
            resolve(ledger, &payment, true).await,
            ResolveResult::Known,
            "the payment itself is not in doubt"
        );
        assert_eq!(
            resolve_refund(ledger, &payment, id, false).await,
            ResolveResult::Known,
            "the refund is refused already"
        );
        let ResolveResult::Stands(stands) = resolve_refund(ledger, &payment, id, true).await else {
            panic!("the doubt is not resolved")
        };
        let ended = if late { PaymentState::Returned } else { PaymentState::Refunded };
        assert_eq!((stands.state, stands.refunded, stands.left()), (ended, TOTAL, 0));
        let said = (stands.refunds[0].state, stands.refunds[0].code.clone());
        assert_eq!(said, (RefundState::Done, ReasonCode::new("TICKET_4711")));
        assert_eq!(read(ledger, &payment).await, *stands);
        assert_eq!(
            resolve_refund(ledger, &payment, id, true).await,
            ResolveResult::Known,
            "a second decision has no effect"
        );
        assert_eq!(ledger.payments(true, 10).await.unwrap(), []);
        assert_eq!(ledger.doubt().await.unwrap().charged_late, 0);
        assert_eq!(due_refunds(ledger).await, []);
    }
}

pub(crate) async fn no_operator_gives_back_more_than_was_paid(database: &Database) {
    let (shop, _) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = to_be_back(database, &shop, false).await;
    let refused = payment.refunds[0].refund;
    refund_told(ledger, &payment, refused, declined()).await;
    let (_, other) = begin_refund(ledger, &refund(&shop, "r", &payment, 1)).await.unwrap();
    let said = async || resolve_refund(ledger, &payment, refused, true).await;
    assert_eq!(said().await, ResolveResult::NotLeft(TOTAL - 1), "refunds under way count");
    refund_told(ledger, &payment, other, ReportedOutcome::Done).await;
    assert_eq!(said().await, ResolveResult::NotLeft(TOTAL - 1));
    assert_eq!(read(ledger, &payment).await.refunded, 1);
}

pub(crate) async fn a_shops_refused_refund_is_not_asked_again_without_the_shop(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = paid(ledger, &shop, "a", order).await;
    let (_, id) = begin_refund(ledger, &refund(&shop, "r", &payment, 1_000)).await.unwrap();
    let stands = refund_told(ledger, &payment, id, declined()).await;
    assert_eq!(resolve_refund(ledger, &payment, id, true).await, ResolveResult::Known);
    assert_eq!((read(ledger, &payment).await, ledger.payments(true, 10).await.unwrap()), (stands, vec![]));
}

pub(crate) async fn a_hint_never_postpones_what_is_due_sooner(database: &Database) {
    let (shop, order) = shop_with_order(database).await;
    let ledger = &database.ledger;
    let payment = begun(ledger, &pay(&shop, "a", order)).await;
    told(ledger, &payment, nothing(Duration::ZERO)).await;
    let due = async || ledger.take_due_payments(Duration::ZERO, 10).await.unwrap().len();
    // However often anybody sends a hint.
    for _ in 0..3 {
        assert!(
            !ledger.hint_payment(order, seconds(600)).await.unwrap(),
            "a hint postponed a payment in doubt"
        );
    }
    assert_eq!(due().await, 1);
    told(ledger, &payment, declined()).await;
    assert!(ledger.hint_payment(order, Duration::ZERO).await.unwrap());
    for _ in 0..3 {
        assert!(
            !ledger.hint_payment(order, seconds(600)).await.unwrap(),
            "a hint postponed a payment that was given up"
        );
    }
    assert_eq!(due().await, 1);
}
