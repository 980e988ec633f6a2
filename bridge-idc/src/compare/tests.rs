//! Findings for pairs of logs and a ledger, with the keys in one range and in many.

use bridge_protocol::audit::entry::{Started, Stopped};

use super::*;
use crate::orders::store::by_key::AskedFor;

/// Tests of operators' decisions.
mod words;

const SECOND: i64 = 1_000_000;

fn key(n: u8) -> KeyDigest {
    // Spreads the keys over all ranges.
    KeyDigest::from_bytes(&[n.wrapping_mul(37); 32]).unwrap()
}

fn order(n: u8) -> OrderId {
    OrderId::new(UnixMicros::new(1), [n; 10])
}

fn brand() -> Brand {
    Brand::new("shoes").unwrap()
}

fn at(second: i64) -> UnixMicros {
    UnixMicros::new(second * SECOND)
}

fn entry(second: i64, event: Event) -> Vec<u8> {
    Entry::new(at(second), event).encode().unwrap()
}

fn carried(n: u8, action: &str) -> Carried {
    Carried {
        action: Word::of(action),
        brand: brand(),
        bytes: 0,
        ciphertext: None,
        key: key(n),
        order: order(n),
        payment: None,
    }
}

fn ended(n: u8, outcome: &str, position: Option<i64>) -> Ended {
    let (brand, key, order) = (brand(), key(n), order(n));
    Ended { brand, key, order, outcome: Word::of(outcome), payment: None, position, replayed: false }
}

fn committed(second: i64, n: u8, outcome: &str) -> Vec<u8> {
    entry(second, Event::OrderCommitted(ended(n, outcome, Some(i64::from(n)))))
}

fn concluded(second: i64, n: u8, outcome: &str) -> Vec<u8> {
    entry(second, Event::PaymentCommitted(ended(n, outcome, None)))
}

fn outcome(n: u8, code: &str, stands: Option<&str>) -> OutcomeOfKey {
    OutcomeOfKey {
        key: key(n),
        brand: brand(),
        order: order(n),
        outcome: code.to_owned(),
        position: i64::from(n),
        committed_at: at(500),
        stands: stands.map(str::to_owned),
    }
}

fn payment(n: u8, is_refund: bool, state: &str) -> PaymentOfKey {
    let asked = AskedFor { brand: brand(), order: order(n), state: state.to_owned(), at: at(500) };
    PaymentOfKey { key: key(n), is_refund, asked: Some(asked) }
}

/// Makes a log from second 1 to second 1,000.
fn log(entries: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let began = Event::AgentStarted(Started { build: Word::of("0"), name: Word::of("a") });
    let stopped = Event::AgentStopped(Stopped { reason: Word::of("signal") });
    [entry(1, began)].into_iter().chain(entries).chain([entry(1_000, stopped)]).collect()
}

fn span(log: &[Vec<u8>]) -> Span {
    let mut reach = Reach::default();
    log.iter().for_each(|entry| reach.take(entry));
    Span::of([("idc/one", reach, false)].into_iter())
}

type Comparison = (Counts, Vec<(OrderId, ComparedItem, FindingKind)>);

fn compare(log: &[Vec<u8>], outcomes: &[OutcomeOfKey], payments: &[PaymentOfKey]) -> Comparison {
    compare_logs(&[log], outcomes, payments)
}

fn compare_logs(logs: &[&[Vec<u8>]], outcomes: &[OutcomeOfKey], payments: &[PaymentOfKey]) -> Comparison {
    let span = span(&logs.concat());
    let told = [1, 5].map(|parts| {
        let (mut counts, mut found) = (Counts::default(), Vec::new());
        for keys in Keys::parts(parts) {
            let mut part = Part::new(keys, &span);
            for log in logs {
                part.begin_log();
                assert!(log.iter().all(|entry| part.take(entry)));
            }
            let mut tell = |finding: Finding| found.push((finding.order, finding.about, finding.what));
            for row in outcomes.iter().filter(|row| keys.has(row.key.as_bytes())) {
                part.outcome(row.clone(), &mut counts, &mut tell);
            }
            for row in payments.iter().filter(|row| keys.has(row.key.as_bytes())) {
                part.payment(row.clone(), &mut counts, &mut tell);
            }
            part.finish(&mut counts, &mut tell);
        }
        found.sort_by_key(|(order, ..)| *order);
        (counts, found)
    });
    assert_eq!(told[0], told[1], "in one part and in five");
    told[0].clone()
}

#[test]
fn equal_records_agree_and_missing_or_different_ones_are_named() {
    let log = log(vec![
        committed(10, 1, "placed"),
        committed(11, 2, "sold-out"),
        committed(12, 3, "cancelled"),
        committed(13, 4, "placed"),
        committed(14, 5, "cancelled"),
        committed(15, 6, "placed"),
        committed(16, 7, "cancelled"),
        committed(17, 8, "placed"),
        entry(18, Event::OrderReceived(carried(10, "place"))),
        entry(19, Event::OrderReceived(carried(11, "place"))),
    ]);
    let mut moved = outcome(8, "placed", Some("placed"));
    moved.position = 80;
    let outcomes = [
        outcome(1, "placed", Some("placed")),
        outcome(2, "sold-out", None),
        outcome(3, "cancelled", Some("cancelled")),
        outcome(6, "placed", None),
        outcome(7, "cancelled", Some("placed")),
        moved,
        outcome(9, "placed", Some("placed")),
        outcome(10, "placed", Some("placed")),
    ];
    let (counts, found) = compare(&log, &outcomes, &[]);
    let expected = [
        (4, ComparedItem::Order, FindingKind::Lost),
        (5, ComparedItem::Cancellation, FindingKind::Lost),
        (6, ComparedItem::Order, FindingKind::Lost),
        (7, ComparedItem::Cancellation, FindingKind::Otherwise),
        (8, ComparedItem::Order, FindingKind::Otherwise),
        (9, ComparedItem::Order, FindingKind::NotLogged),
        (10, ComparedItem::Order, FindingKind::OnlyReceived),
    ];
    assert_eq!(found, expected.map(|(n, about, what)| (order(n), about, what)));
    let expected =
        Counts { agreed: 3, lost: 3, otherwise: 2, not_logged: 1, in_doubt: 1, ..Counts::default() };
    assert_eq!((counts, counts.differ()), (expected, 6));
}

#[test]
fn an_order_placed_again_under_its_key_is_named_by_both_ids() {
    let again = Ended { order: order(9), position: Some(7), ..ended(1, "placed", None) };
    let log = log(vec![committed(10, 1, "placed"), entry(900, Event::OrderCommitted(again))]);
    let row = OutcomeOfKey { order: order(9), position: 7, ..outcome(1, "placed", Some("placed")) };
    let (counts, found) = compare(&log, &[row], &[]);
    assert_eq!(found, [(order(1), ComparedItem::Order, FindingKind::Otherwise)]);
    assert_eq!((counts.agreed, counts.otherwise), (0, 1));
}

#[test]
fn a_payment_may_stand_as_later_requests_left_it_not_earlier() {
    let log = log(vec![
        entry(9, Event::PaymentReceived(carried(1, "pay"))),
        concluded(10, 1, "unknown"),
        concluded(11, 1, "paid"),
        concluded(12, 2, "paid"),
        concluded(13, 3, "paid"),
        concluded(14, 4, "paid"),
        concluded(15, 5, "refunded"),
        entry(16, Event::PaymentReceived(carried(6, "refund"))),
        concluded(17, 6, "unknown"),
        concluded(18, 7, "done"),
        concluded(19, 8, "not_paid"),
        entry(20, Event::PaymentReceived(carried(11, "pay"))),
        entry(21, Event::PaymentReceived(carried(12, "pay"))),
    ]);
    let payments = [
        payment(1, false, "paid"),
        payment(2, false, "partially_refunded"),
        payment(3, false, "unknown"),
        payment(5, false, "paid"),
        payment(7, true, "confirming"),
        payment(8, false, "charged_late"),
        payment(9, false, "paid"),
        PaymentOfKey { asked: None, ..payment(10, true, "done") },
        payment(11, false, "confirming"),
        payment(12, false, "paid"),
    ];
    let (counts, found) = compare(&log, &[], &payments);
    let expected = [
        (3, ComparedItem::Payment, FindingKind::Open),
        (4, ComparedItem::Payment, FindingKind::Lost),
        (5, ComparedItem::Payment, FindingKind::Otherwise),
        (6, ComparedItem::Refund, FindingKind::Lost),
        (7, ComparedItem::Refund, FindingKind::Open),
        (8, ComparedItem::Payment, FindingKind::Otherwise),
        (9, ComparedItem::Payment, FindingKind::NotLogged),
        (12, ComparedItem::Payment, FindingKind::OnlyReceived),
    ];
    assert_eq!(found, expected.map(|(n, about, what)| (order(n), about, what)));
    assert_eq!((counts.agreed, counts.in_doubt, counts.differ()), (3, 3, 5));
}

/// If a ledger was restored to a time before a payment began, it has no row that makes an agent
/// query the gateway.
#[test]
fn a_payment_ended_neither_in_log_nor_ledger_is_named() {
    let refused = |n, code| Event::PaymentAnswered(ended(n, code, None));
    let log = log(vec![
        entry(10, Event::PaymentReceived(carried(1, "pay"))),
        entry(11, Event::PaymentReceived(carried(2, "refund"))),
        entry(12, Event::OrderReceived(carried(3, "cancel"))),
        entry(13, Event::OrderReceived(carried(4, "place"))),
        entry(14, Event::PaymentReceived(carried(5, "pay"))),
        entry(15, refused(5, "already-paid")),
        entry(16, Event::OrderReceived(carried(6, "cancel"))),
        entry(17, Event::OrderAnswered(ended(6, "not-found", None))),
        // The agent died, and the retry was refused.
        entry(18, Event::PaymentReceived(carried(7, "pay"))),
        entry(19, Event::PaymentReceived(carried(7, "pay"))),
        entry(20, refused(7, "not-found")),
        entry(21, Event::PaymentReceived(carried(8, "pay"))),
    ]);
    let (counts, found) = compare(&log, &[], &[payment(8, false, "confirming")]);
    let expected = [
        (1, ComparedItem::Payment),
        (2, ComparedItem::Refund),
        (3, ComparedItem::Cancellation),
        (7, ComparedItem::Payment),
    ];
    assert_eq!(found, expected.map(|(n, about)| (order(n), about, FindingKind::Unaccounted)));
    assert_eq!((counts.agreed, counts.in_doubt, counts.differ()), (1, 4, 0));
    // An agent that was just killed has no entry of its end.
    let (counts, _) = compare(&log[..log.len() - 1], &[], &[]);
    assert_eq!((counts.in_doubt, counts.after), (5, 0));
}

/// The clocks of two agents differ, so the last outcome of a payment does not depend on the
/// entries' times.
#[test]
fn a_payments_progress_is_told_by_its_outcome_not_by_clocks() {
    let log = log(vec![
        concluded(20, 1, "paid"),
        concluded(10, 1, "refunded"),
        concluded(20, 2, "not_paid"),
        concluded(10, 2, "charged_late"),
    ]);
    let payments = [(1, "paid"), (2, "not_paid")].map(|(n, state)| payment(n, false, state));
    let (counts, found) = compare(&log, &[], &payments);
    let expected = [1, 2].map(|n| (order(n), ComparedItem::Payment, FindingKind::Otherwise));
    assert_eq!((counts.otherwise, found), (2, expected.to_vec()));
}

/// A late charge is logged, and before its commit another payment with the same token begins, so
/// the charge belongs to that one. The agent then logs the first payment's state again and commits
/// nothing.
#[test]
fn a_late_charge_that_was_another_payments_is_no_difference() {
    let again = |second, n| {
        entry(second, Event::PaymentCommitted(Ended { replayed: true, ..ended(n, "not_paid", None) }))
    };
    let one = log(vec![
        concluded(10, 1, "not_paid"),
        concluded(11, 1, "charged_late"),
        concluded(12, 1, "not_paid"),
        concluded(13, 2, "declined"),
        concluded(14, 2, "charged_late"),
        concluded(15, 2, "declined"),
        // This payment was charged late after all.
        concluded(16, 3, "charged_late"),
        concluded(17, 3, "not_paid"),
        concluded(18, 3, "charged_late"),
        // The retry got the answer from before the late charge.
        concluded(19, 4, "charged_late"),
        again(20, 4),
        concluded(21, 5, "charged_late"),
    ]);
    let other = log(vec![concluded(30, 5, "not_paid")]);
    let payments = [(1, "not_paid"), (2, "declined"), (3, "not_paid"), (4, "not_paid"), (5, "not_paid")];
    let payments = payments.map(|(n, state)| payment(n, false, state));
    let (counts, found) = compare_logs(&[&one, &other], &[], &payments);
    let expected = [3, 4, 5].map(|n| (order(n), ComparedItem::Payment, FindingKind::Otherwise));
    assert_eq!((counts.agreed, found), (2, expected.to_vec()));
    let late = [1, 3].map(|n| payment(n, false, "charged_late"));
    let (counts, _) = compare_logs(&[&one, &other], &[], &late);
    assert_eq!((counts.agreed, counts.otherwise), (2, 0));
}

#[test]
fn ledger_rows_from_before_or_after_the_logs_are_no_difference() {
    let log = log(vec![committed(10, 1, "placed")]);
    let of = |n, second| OutcomeOfKey { committed_at: at(second), ..outcome(n, "placed", Some("placed")) };
    let rows = [of(1, 0), of(2, 0), of(3, 1_001), of(4, 999)];
    let (counts, found) = compare(&log, &rows, &[]);
    assert_eq!(found, [(order(4), ComparedItem::Order, FindingKind::NotLogged)]);
    assert_eq!((counts.agreed, counts.before, counts.after, counts.not_logged), (1, 1, 1, 1));
}

#[test]
fn logs_cover_everything_up_to_a_running_agents_last_minute() {
    let reach = |from, to, is_ended| Reach {
        entries: 9,
        from: Some(at(from)),
        to: Some(at(to)),
        is_ended,
        ..Reach::default()
    };
    let to = |logs: Vec<(&str, Reach, bool)>| Span::of(logs.into_iter()).to();
    assert_eq!(to(vec![("a", reach(1, 900, true), false)]), Some(at(900)));
    assert_eq!(to(vec![("a", reach(1, 900, false), false)]), Some(at(840)));
    assert_eq!(to(vec![("a", reach(1, 900, true), true)]), Some(at(840)), "it is not given to its end");
    // An agent that has ended does not limit the range. In the second case one agent started a new
    // log.
    let logs = vec![("a", reach(1, 300, true), false), ("b", reach(1, 900, false), false)];
    assert_eq!(to(logs), Some(at(840)));
    let logs = vec![("a", reach(1, 300, false), false), ("a", reach(301, 900, true), false)];
    assert_eq!(to(logs), Some(at(900)));
    let logs = vec![("", reach(1, 300, false), false), ("", reach(301, 900, true), false)];
    assert_eq!(to(logs), Some(at(240)), "two agents without a name");
    let nothing = Span::of([("a", Reach::default(), false)].into_iter());
    assert!(nothing.begins_after(at(1)) && nothing.ends_before(at(1)));
}

#[test]
fn a_refused_automatic_refund_leaves_its_payment_as_it_stands() {
    let log = log(vec![
        concluded(10, 1, "paid"),
        concluded(11, 1, "refused"),
        concluded(12, 2, "refused"),
        // This entry is from another agent, whose clock is behind.
        concluded(11, 2, "paid"),
        concluded(13, 3, "charged_late"),
        concluded(14, 3, "refused"),
        concluded(15, 4, "paid"),
        concluded(16, 4, "refused"),
        concluded(17, 4, "refunded"),
        concluded(18, 5, "paid"),
        concluded(19, 5, "refused"),
        concluded(20, 6, "paid"),
        concluded(21, 6, "refused"),
        // The log of the agent that charged it is missing.
        concluded(22, 7, "refused"),
        concluded(23, 8, "unknown"),
        concluded(24, 8, "refused"),
        entry(25, Event::PaymentReceived(carried(9, "refund"))),
        concluded(26, 9, "refused"),
    ]);
    let payments = [
        payment(1, false, "paid"),
        payment(2, false, "partially_refunded"),
        payment(3, false, "charged_late"),
        payment(4, false, "refunded"),
        payment(5, false, "unknown"),
        payment(7, false, "paid"),
        payment(8, true, "refused"),
        payment(9, true, "confirming"),
    ];
    let (counts, found) = compare(&log, &[], &payments);
    let expected = [
        (5, ComparedItem::Payment, FindingKind::Open),
        (6, ComparedItem::Payment, FindingKind::Lost),
        (9, ComparedItem::Refund, FindingKind::Open),
    ];
    assert_eq!(found, expected.map(|(n, about, what)| (order(n), about, what)));
    assert_eq!((counts.agreed, counts.in_doubt, counts.lost), (6, 2, 1));
}
