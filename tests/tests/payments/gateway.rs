//! Tests of the adapter for Toss Payments against the sandbox: which answers it takes as proof, and
//! which not.

use std::time::Duration;

use bridge_idc::payments::gateway::toss::Toss;
use bridge_idc::payments::gateway::{ChargeStatus, Gateway, GatewayAnswer, NoProof};
use bridge_idc::payments::{Charge, GiveBack};
use bridge_protocol::domain::{
    Currency, Money, OrderId, PaymentId, PaymentKey, ReasonCode, RefundId, UnixMicros,
};
use bridge_tests::testkit::sandbox::{Mischief, Rates, SECRET_KEY, Sandbox};

const NOW: UnixMicros = UnixMicros::new(1_795_343_485_000_000);

/// Time-out that is long enough for an answer on loopback, and short enough to wait for a lost one.
const TIMEOUT: Duration = Duration::from_millis(1_500);

async fn gateway() -> (Sandbox, Toss) {
    let sandbox = Sandbox::start(Rates::default()).await.unwrap();
    let toss = Toss::new(&sandbox.url(), SECRET_KEY.as_bytes(), TIMEOUT).unwrap();
    (sandbox, toss)
}

fn krw(amount: i64) -> Money {
    Money::new(amount, Currency::new("KRW").unwrap()).unwrap()
}

fn charge(n: u8) -> Charge {
    Charge {
        payment: PaymentId::new(NOW, [n; 10]),
        order: OrderId::new(NOW, [n; 10]),
        amount: krw(222_000),
        payment_key: PaymentKey::new(&format!("tgen_{n}")).unwrap(),
    }
}

fn refund(n: u8, amount: i64, charge: &Charge) -> GiveBack {
    let (refund, reason) = (RefundId::new(NOW, [100 + n; 10]), "변심".to_owned());
    GiveBack { refund, amount: krw(amount), reason, charge: charge.clone() }
}

fn charged(sandbox: &Sandbox) -> Vec<u32> {
    sandbox.charges().iter().map(|charge| charge.charged).collect()
}

fn code(text: &str) -> ReasonCode {
    ReasonCode::new(text).unwrap()
}

#[tokio::test]
async fn a_charge_is_confirmed_found_and_given_back_in_parts() {
    let (sandbox, toss) = gateway().await;
    let charge = charge(1);
    assert_eq!(toss.find(&charge).await, ChargeStatus::NoTrace);
    assert_eq!(toss.confirm(&charge).await, GatewayAnswer::Done);
    assert_eq!(toss.find(&charge).await, ChargeStatus::Charged);
    assert_eq!(toss.give_back(&refund(1, 22_000, &charge)).await, GatewayAnswer::Done);
    let too_much = toss.give_back(&refund(2, 200_001, &charge)).await;
    assert_eq!(too_much, GatewayAnswer::Refused(code("NOT_CANCELABLE_AMOUNT")));
    assert_eq!(toss.give_back(&refund(3, 200_000, &charge)).await, GatewayAnswer::Done);
    let books = sandbox.charges();
    assert_eq!(
        (books[0].status.as_str(), books[0].cancels.as_slice()),
        ("CANCELED", [22_000, 200_000].as_slice())
    );
}

#[tokio::test]
async fn asked_again_under_the_same_key_it_charges_and_gives_back_once() {
    let (sandbox, toss) = gateway().await;
    let charge = charge(1);
    for _ in 0..3 {
        assert_eq!(toss.confirm(&charge).await, GatewayAnswer::Done);
    }
    let back = refund(1, 1_000, &charge);
    for _ in 0..3 {
        assert_eq!(toss.give_back(&back).await, GatewayAnswer::Done);
    }
    assert_eq!((charged(&sandbox), sandbox.charges()[0].cancels.len()), (vec![1], 1));
}

#[tokio::test]
async fn a_declined_payment_is_told_apart_from_a_later_one() {
    let (sandbox, toss) = gateway().await;
    sandbox.next([Mischief::Decline]);
    let first = charge(1);
    assert_eq!(toss.confirm(&first).await, GatewayAnswer::Refused(code("REJECT_CARD_COMPANY")));
    assert_eq!(toss.find(&first).await, ChargeStatus::NotCharged(code("ABORTED")));
    let second = Charge { order: first.order, ..charge(2) };
    assert_eq!(
        toss.find(&second).await,
        ChargeStatus::NoTrace,
        "the gateway's payment belongs to the first attempt"
    );
    assert_eq!(toss.confirm(&second).await, GatewayAnswer::Done);
    assert!(
        matches!(toss.find(&first).await, ChargeStatus::Unknown(NoProof::Mismatch)),
        "another attempt moved money"
    );
}

#[tokio::test]
async fn an_unfinished_checkout_is_not_concluded_and_an_expired_one_is() {
    let (sandbox, toss) = gateway().await;
    let charge = charge(1);
    sandbox.authorise(&charge.order.to_string(), charge.payment_key.as_str(), 222_000);
    assert_eq!(toss.find(&charge).await, ChargeStatus::NotConcluded);
    sandbox.set_status(&charge.order.to_string(), "EXPIRED");
    assert_eq!(toss.find(&charge).await, ChargeStatus::NotCharged(code("EXPIRED")));
    sandbox.set_status(&charge.order.to_string(), "WAITING_FOR_DEPOSIT");
    assert_eq!(toss.find(&charge).await, ChargeStatus::Unknown(NoProof::Mismatch));
}

#[tokio::test]
async fn whatever_proves_nothing_is_unknown_and_asking_again_tells_the_truth() {
    let (sandbox, toss) = gateway().await;
    for (n, mischief, expected) in [
        (1, Mischief::FailAfter, NoProof::Status(500)),
        (2, Mischief::FailBefore, NoProof::Status(500)),
        (3, Mischief::Html, NoProof::Unreadable),
        (4, Mischief::Redirect, NoProof::Status(302)),
        (5, Mischief::Huge, NoProof::TooLong),
        (6, Mischief::Nothing, NoProof::Unreachable),
        (7, Mischief::BrokenJson, NoProof::Unreadable),
        (8, Mischief::WrongAmount, NoProof::Mismatch),
        (9, Mischief::WrongOrder, NoProof::Mismatch),
        (10, Mischief::AlreadyProcessed, NoProof::Code(code("ALREADY_PROCESSED_PAYMENT"))),
        (11, Mischief::HangBefore, NoProof::TimedOut),
        (12, Mischief::HangAfter, NoProof::TimedOut),
    ] {
        let charge = charge(n);
        sandbox.next([mischief]);
        assert_eq!(toss.confirm(&charge).await, GatewayAnswer::Unknown(expected.clone()), "{mischief:?}");
        if mischief != Mischief::FailBefore {
            sandbox.next([mischief]);
            let found = toss.find(&charge).await;
            assert_eq!(found, ChargeStatus::Unknown(expected.clone()), "{mischief:?}, asked about");
        }
        let moved = !matches!(mischief, Mischief::FailBefore | Mischief::HangBefore);
        assert_eq!(toss.find(&charge).await == ChargeStatus::Charged, moved, "{mischief:?}");
        assert_eq!(toss.confirm(&charge).await, GatewayAnswer::Done, "{mischief:?}, confirmed again");
        let back = refund(n, 1_000, &charge);
        sandbox.next([mischief]);
        assert_eq!(toss.give_back(&back).await, GatewayAnswer::Unknown(expected), "{mischief:?}, given back");
        assert_eq!(toss.give_back(&back).await, GatewayAnswer::Done, "{mischief:?}, given back again");
    }
    let books = sandbox.charges();
    assert!(books.iter().all(|charge| charge.charged == 1 && charge.cancels == [1_000]), "{books:?}");
}

#[tokio::test]
async fn a_gateway_that_is_not_there_or_refuses_the_key_proves_nothing() {
    let (sandbox, _) = gateway().await;
    let charge = charge(1);
    let stranger = Toss::new(&sandbox.url(), b"test_sk_other", TIMEOUT).unwrap();
    let unauthorized = NoProof::Code(code("UNAUTHORIZED_KEY"));
    assert_eq!(stranger.confirm(&charge).await, GatewayAnswer::Unknown(unauthorized));
    let url = sandbox.url();
    let gone = Toss::new(&url, SECRET_KEY.as_bytes(), TIMEOUT).unwrap();
    drop(sandbox);
    tokio::task::yield_now().await;
    assert!(matches!(gone.confirm(&charge).await, GatewayAnswer::Unknown(_)));
}
