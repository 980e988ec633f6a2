//! Tests with two logs: agreement, losses, differences and doubts.

use super::*;
use crate::audit::entry::{Carried, Closed, Digest, Ended, Started, Stopped};
use crate::domain::UnixMicros;

// Tests with two or more agents on each side.
mod several;

// Tests with logs that end early.
mod early;

// Tests with requests about one order through several agents.
mod elsewhere;

fn key(n: u8) -> KeyDigest {
    KeyDigest::from_array([n; 32])
}

fn carried(n: u8, bytes: &[u8]) -> Carried {
    Carried {
        action: Word::of("place"),
        brand: Brand::new("shoes").unwrap(),
        bytes: bytes.len() as u64,
        ciphertext: Some(Digest::of(bytes)),
        key: key(n),
        order: OrderId::new(UnixMicros::new(1), [n; 10]),
        payment: None,
    }
}

fn ended(n: u8, outcome: &str, position: Option<i64>) -> Ended {
    let Carried { brand, key, order, .. } = carried(n, b"");
    Ended { brand, key, order, outcome: Word::of(outcome), payment: None, position, replayed: false }
}

/// A log as events with their times.
type Log = Vec<(i64, Event)>;

fn reconcile(cloud: Log, idc: Log) -> Reconciled {
    let mut reconciler = Reconciler::new();
    for (at, event) in cloud {
        reconciler.cloud(&Entry::new(UnixMicros::new(at), event));
    }
    for (at, event) in idc {
        reconciler.idc(&Entry::new(UnixMicros::new(at), event));
    }
    reconciler.finish()
}

fn started() -> Event {
    Event::AgentStarted(Started { build: Word::of("0"), name: Word::of("a") })
}

fn stopped() -> Event {
    Event::AgentStopped(Stopped { reason: Word::of("signal") })
}

fn closed() -> Event {
    Event::TunnelClosed(Closed { link: 1, peer: Word::of("p"), reason: Word::of("r") })
}

fn whole(n: u8) -> (Log, Log) {
    let at = i64::from(n) * 10;
    let cloud = vec![
        (at, Event::OrderSent(carried(n, b"sealed"))),
        (at + 3, Event::OrderAnswered(ended(n, "placed", Some(at)))),
    ];
    let idc = vec![
        (at + 1, Event::OrderReceived(carried(n, b"sealed"))),
        (at + 2, Event::OrderCommitted(ended(n, "placed", Some(at)))),
    ];
    (cloud, idc)
}

/// Compares logs of three orders after `change`. Both agents end in order.
fn with(change: impl FnOnce(&mut Log, &mut Log)) -> Reconciled {
    let (first, mut second, third) = (whole(1), whole(2), whole(3));
    change(&mut second.0, &mut second.1);
    let around = |first: Log, second: Log, third: Log| {
        let orders = first.into_iter().chain(second).chain(third);
        [(0, started())].into_iter().chain(orders).chain([(1_000, stopped())]).collect()
    };
    reconcile(around(first.0, second.0, third.0), around(first.1, second.1, third.1))
}

#[test]
fn logs_that_tell_the_same_agree() {
    let same = with(|_, _| {});
    assert_eq!((same.agreed, same.lost, same.differences, same.in_doubt), (3, 0, vec![], vec![]));
}

#[test]
fn each_planted_difference_is_named_and_nothing_else_is() {
    type Change = fn(&mut Log, &mut Log);
    let placed = Word::of("placed");
    let cases: [(Change, DifferenceKind); 8] = [
        (
            |cloud, idc| {
                cloud.pop();
                idc.clear()
            },
            DifferenceKind::NeverReceived,
        ),
        (|cloud, _| cloud.clear(), DifferenceKind::NeverSent),
        (|cloud, _| drop(cloud.remove(0)), DifferenceKind::NeverSent),
        (|_, idc| idc[0].1 = Event::OrderReceived(carried(2, b"other")), DifferenceKind::OtherBytes),
        (|_, idc| drop(idc.remove(0)), DifferenceKind::CommittedUnreceived),
        (|cloud, _| drop(cloud.pop()), DifferenceKind::NeverAnswered),
        (|_, idc| drop(idc.pop()), DifferenceKind::NeverCommitted { answered: placed.clone() }),
        (
            |_, idc| idc[1].1 = Event::OrderCommitted(ended(2, "sold-out", Some(20))),
            DifferenceKind::OtherOutcome { committed: Word::of("sold-out"), answered: placed.clone() },
        ),
    ];
    for (change, expected) in cases {
        let told = with(change);
        assert_eq!(told.differences.len(), 1, "{expected}: {told:?}");
        assert_eq!((&told.differences[0].what, told.differences[0].key), (&expected, key(2)));
        assert_eq!((told.agreed, told.lost, told.in_doubt.len()), (2, 0, 0));
    }
}

#[test]
fn an_older_cloud_agent_calls_a_launch_refusal_sold_out() {
    let told = with(|cloud, idc| {
        idc[1].1 = Event::OrderCommitted(ended(2, "limit-reached", Some(20)));
        cloud.last_mut().unwrap().1 = Event::OrderAnswered(ended(2, "sold-out", Some(20)));
    });
    assert_eq!(told.differences, []);
    let told = with(|cloud, idc| {
        idc[1].1 = Event::OrderCommitted(ended(2, "sold-out", Some(20)));
        cloud.last_mut().unwrap().1 = Event::OrderAnswered(ended(2, "limit-reached", Some(20)));
    });
    assert_eq!(told.differences.len(), 1, "{told:?}");
}

#[test]
fn a_request_under_way_when_its_link_ended_is_lost_without_difference() {
    let lost = with(|cloud, idc| {
        cloud[1] = (23, closed());
        idc.clear();
    });
    assert_eq!((lost.agreed, lost.lost, lost.differences), (2, 1, vec![]));
    // A missing answer is explained only by an agent's death.
    let silent = with(|cloud, _| cloud[1] = (23, closed()));
    assert_eq!(silent.differences[0].what, DifferenceKind::NeverAnswered);
    let died = with(|cloud, _| cloud[1] = (23, started()));
    assert_eq!((died.agreed, died.lost, died.differences), (2, 1, vec![]));
    // A caller learned that the request was not taken, so the IDC need not know the request.
    let kept = with(|cloud, idc| {
        cloud[1] = (23, Event::OrderAnswered(ended(2, "not-sent", None)));
        idc.clear();
    });
    assert_eq!((kept.agreed, kept.lost, kept.differences), (3, 0, vec![]));
    let unknown = Event::OrderAnswered(ended(2, "unknown", None));
    let told = with(|cloud, _| cloud[1] = (23, unknown));
    assert_eq!((told.agreed, told.differences), (3, vec![]));
    // A caller learned of a commit that the IDC's log does not have. That is a difference even
    // after a link ended.
    let lied = with(|cloud, idc| {
        cloud.push((24, closed()));
        idc.clear();
    });
    assert!(matches!(lied.differences[0].what, DifferenceKind::NeverCommitted { .. }));
}

#[test]
fn a_request_refused_for_want_of_a_log_is_no_difference() {
    let reconciled = with(|cloud, idc| {
        cloud[1] = (23, Event::OrderAnswered(ended(2, "database-down", None)));
        idc.clear();
    });
    assert_eq!((reconciled.agreed, reconciled.differences), (3, Vec::new()));
}

#[test]
fn what_a_log_that_ends_earlier_does_not_say_is_in_doubt() {
    let ((cloud, idc), (later_cloud, later_idc)) = (whole(1), whole(2));
    let told = reconcile([cloud.clone(), later_cloud].concat(), idc.clone());
    assert_eq!((told.differences, told.in_doubt.len()), (vec![], 1));
    let told = reconcile(cloud, [idc, later_idc].concat());
    assert_eq!((told.differences, told.in_doubt.len()), (vec![], 1));
    assert_eq!(told.in_doubt[0].what, DifferenceKind::NeverSent);
}

#[test]
fn a_request_that_was_sealed_and_sent_twice_agrees_with_either_copy() {
    let told = with(|cloud, idc| {
        cloud.insert(1, (21, Event::OrderSent(carried(2, b"again"))));
        idc[0].1 = Event::OrderReceived(carried(2, b"again"));
        idc.push((23, Event::OrderCommitted(Ended { replayed: true, ..ended(2, "placed", Some(20)) })));
    });
    assert_eq!((told.agreed, told.differences), (3, vec![]));
}

/// Replaces a request by a payment of unknown outcome: sent, received, and logged as unknown on
/// both sides.
fn doubtful(cloud: &mut Log, idc: &mut Log) {
    *cloud = vec![(20, Event::PaymentSent(paying())), (23, Event::PaymentAnswered(payment("unknown")))];
    *idc = vec![(21, Event::PaymentReceived(paying())), (22, Event::PaymentCommitted(payment("unknown")))];
}

fn paying() -> Carried {
    Carried { action: Word::of("pay"), payment: Some(Word::of("p")), ..carried(2, b"") }
}

fn payment(outcome: &str) -> Ended {
    Ended { payment: Some(Word::of("p")), ..ended(2, outcome, None) }
}

#[test]
fn a_payment_that_was_unknown_and_is_concluded_later_is_one_request() {
    for later in ["paid", "not_paid"] {
        let told = with(|cloud, idc| {
            doubtful(cloud, idc);
            idc.push((500, Event::PaymentCommitted(payment(later))));
        });
        assert_eq!((told.agreed, told.differences), (3, vec![]), "{later}, and nobody asked again");
        let told = with(|cloud, idc| {
            doubtful(cloud, idc);
            cloud.push((501, Event::PaymentAnswered(payment(later))));
            idc.push((500, Event::PaymentCommitted(payment(later))));
            idc.push((502, Event::PaymentCommitted(payment("refunded"))));
        });
        assert_eq!((told.agreed, told.differences), (3, vec![]), "{later}, as was told");
    }
}

#[test]
fn a_payment_logged_again_after_a_failed_commit_counts_once() {
    let told = with(|cloud, idc| {
        *cloud = vec![(20, Event::PaymentSent(paying())), (24, Event::PaymentAnswered(payment("unknown")))];
        *idc = ["paid", "unknown", "paid"]
            .map(|outcome| Event::PaymentCommitted(payment(outcome)))
            .to_vec()
            .into_iter()
            .zip([22, 23, 500])
            .map(|(event, at)| (at, event))
            .collect();
        idc.insert(0, (21, Event::PaymentReceived(paying())));
        cloud.push((501, Event::PaymentAnswered(payment("paid"))));
    });
    assert_eq!((told.agreed, told.differences), (3, vec![]));
}

#[test]
fn a_late_charge_that_is_refunded_agrees_with_each_answer() {
    let ends = ["not_paid", "charged_late", "returned"];
    for told in ends {
        let reconciled = with(|cloud, idc| {
            doubtful(cloud, idc);
            for (at, outcome) in [500, 501, 502].into_iter().zip(ends) {
                idc.push((at, Event::PaymentCommitted(payment(outcome))));
            }
            cloud.push((503, Event::PaymentAnswered(payment(told))));
        });
        assert_eq!((reconciled.agreed, reconciled.differences), (3, vec![]), "{told}");
    }
    let reconciled = with(|cloud, idc| {
        doubtful(cloud, idc);
        idc.push((500, Event::PaymentCommitted(payment("not_paid"))));
        cloud.push((503, Event::PaymentAnswered(payment("charged_late"))));
    });
    let other =
        DifferenceKind::OtherOutcome { committed: Word::of("not_paid"), answered: Word::of("charged_late") };
    assert_eq!(reconciled.differences[0].what, other);
}

#[test]
fn a_payments_answers_equal_its_conclusions_sooner_or_later() {
    let paid = || Word::of("paid");
    let told = with(|cloud, idc| {
        doubtful(cloud, idc);
        cloud.push((501, Event::PaymentAnswered(payment("paid"))));
        idc.push((500, Event::PaymentCommitted(payment("not_paid"))));
    });
    let other = DifferenceKind::OtherOutcome { committed: Word::of("not_paid"), answered: paid() };
    assert_eq!((told.agreed, &told.differences[0].what), (2, &other));
    let told = with(|cloud, idc| {
        doubtful(cloud, idc);
        cloud.push((501, Event::PaymentAnswered(payment("paid"))));
    });
    let never = DifferenceKind::NeverCommitted { answered: paid() };
    assert_eq!((told.agreed, &told.differences[0].what), (2, &never), "unknown is no outcome");
    // A payment must be received even if it is concluded.
    let told = with(|cloud, idc| {
        doubtful(cloud, idc);
        *idc = vec![(500, Event::PaymentCommitted(payment("paid")))];
    });
    assert_eq!(told.differences[0].what, DifferenceKind::CommittedUnreceived);
}

#[test]
fn a_conclusion_after_the_end_of_the_idcs_log_is_in_doubt() {
    let (mut cloud, mut idc) = (Log::new(), Log::new());
    doubtful(&mut cloud, &mut idc);
    cloud.push((501, Event::PaymentAnswered(payment("paid"))));
    let told = reconcile(cloud, idc);
    assert_eq!((told.differences, told.in_doubt.len()), (vec![], 1));
}

#[test]
fn a_late_conclusion_hides_nothing_behind_the_other_log_s_end() {
    for (change, what) in [
        (Log::clear as fn(&mut Log), DifferenceKind::NeverSent),
        ((|cloud| drop(cloud.pop())) as fn(&mut Log), DifferenceKind::NeverAnswered),
    ] {
        let told = with(|cloud, idc| {
            doubtful(cloud, idc);
            change(cloud);
            idc.push((2_000, Event::PaymentCommitted(payment("paid"))));
        });
        assert_eq!((told.in_doubt, told.differences.len()), (vec![], 1), "{what}");
        assert_eq!(told.differences[0].what, what);
    }
}

#[test]
fn an_attempt_whose_agents_log_is_missing_is_no_changed_byte() {
    let told = with(|_, idc| {
        for (link, peer) in [(1, "spiffe://shop.example/cloud/a"), (2, "spiffe://shop.example/cloud/b")] {
            idc.insert(0, (20, several::link_to(link, peer)));
        }
        let order = OrderId::new(UnixMicros::new(9), [9; 10]);
        idc.push((24, Event::OrderReceived(Carried { order, ..carried(2, b"sealed by another agent") })));
        idc.push((25, Event::OrderCommitted(Ended { replayed: true, ..ended(2, "placed", Some(20)) })));
    });
    assert_eq!((told.agreed, told.lost, told.differences), (2, 0, vec![]));
}
