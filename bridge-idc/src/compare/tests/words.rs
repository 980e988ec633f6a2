//! Findings for an operator's decision, by the state in the ledger.

use bridge_protocol::audit::entry::{Digest, Resolved};
use bridge_protocol::domain::{PaymentId, RefundId};

use super::*;

fn payment_id() -> PaymentId {
    PaymentId::new(UnixMicros::new(1), [1; 10])
}

fn refund_id(n: u8) -> RefundId {
    RefundId::new(UnixMicros::new(1), [n; 10])
}

fn resolved(second: i64, refund: Option<RefundId>, outcome: &str) -> Vec<u8> {
    entry(
        second,
        Event::PaymentResolved(Resolved {
            brand: Some(Word::of(brand().as_str())),
            key: Some(Digest::from_bytes(*key(1).as_bytes())),
            order: order(1),
            outcome: Word::of(outcome),
            payment: Word::of(&payment_id().to_string()),
            reason: Word::of("TICKET_1"),
            refund: refund.map(|refund| Word::of(&refund.to_string())),
            who: Word::of("uid:1"),
        }),
    )
}

fn stands(state: &str, refunds: &[(u8, bool, &str, Option<&str>)]) -> Option<StandingPayment> {
    let refund = |&(n, automatic, state, code): &(u8, bool, &str, Option<&str>)| StandingRefund {
        refund: refund_id(n),
        automatic,
        state: state.to_owned(),
        code: code.map(str::to_owned),
    };
    Some(StandingPayment { state: state.to_owned(), refunds: refunds.iter().map(refund).collect() })
}

/// Returns the difference for the single decision of a log.
fn wrong(log: &[Vec<u8>], stands: Option<&StandingPayment>) -> Option<FindingKind> {
    let span = span(log);
    let (mut counts, mut found) = (Counts::default(), Vec::new());
    for keys in Keys::parts(3) {
        let mut part = Part::new(keys, &span);
        assert!(log.iter().all(|entry| part.take(entry)));
        for word in part.take_words() {
            part.word(word, stands, &mut counts, |finding| found.push(finding));
        }
    }
    assert_eq!(counts.agreed == 0, found.len() == 1, "{counts:?} {found:?}");
    let finding = found.pop()?;
    assert_eq!((finding.about, finding.order), (ComparedItem::Resolution, order(1)));
    assert!(finding.word.is_some_and(|word| word.command().contains("TICKET_1")));
    Some(finding.what)
}

/// Returns the differences for the same decision: with its commit in the log, and without.
fn wrongs(
    refund: Option<RefundId>,
    outcome: &str,
    ledger: Option<StandingPayment>,
) -> [Option<FindingKind>; 2] {
    let said = log(vec![resolved(10, refund, outcome)]);
    let done = log(vec![resolved(10, refund, outcome), concluded(11, 1, outcome)]);
    [wrong(&done, ledger.as_ref()), wrong(&said, ledger.as_ref())]
}

const MISSING: [Option<FindingKind>; 2] = [Some(FindingKind::Lost), Some(FindingKind::Unaccounted)];
const CONTRADICTED: [Option<FindingKind>; 2] = [Some(FindingKind::Otherwise), None];
const AGREED: [Option<FindingKind>; 2] = [None, None];

#[test]
fn a_word_about_a_payment_is_missed_in_a_doubtful_ledger() {
    for outcome in ["paid", "not_paid"] {
        assert_eq!(wrongs(None, outcome, None), MISSING);
        for open in ["confirming", "unknown"] {
            assert_eq!(wrongs(None, outcome, stands(open, &[])), MISSING, "{outcome} {open}");
        }
    }
    for (outcome, now, expected) in [
        ("not_paid", "not_paid", AGREED),
        ("not_paid", "declined", AGREED),
        ("not_paid", "charged_late", AGREED),
        ("not_paid", "returned", AGREED),
        ("not_paid", "paid", CONTRADICTED),
        ("paid", "paid", AGREED),
        ("paid", "partially_refunded", AGREED),
        ("paid", "refunded", AGREED),
        ("paid", "not_paid", CONTRADICTED),
        ("paid", "charged_late", CONTRADICTED),
    ] {
        assert_eq!(wrongs(None, outcome, stands(now, &[])), expected, "{outcome} {now}");
    }
}

#[test]
fn a_word_about_a_refund_is_held_against_that_refund() {
    let said = |outcome, now| wrongs(Some(refund_id(2)), outcome, stands("paid", &[(2, false, now, None)]));
    for (outcome, now, expected) in [
        ("refused", "unknown", MISSING),
        ("done", "confirming", MISSING),
        ("refused", "refused", AGREED),
        ("refused", "done", AGREED),
        ("done", "done", AGREED),
        ("done", "refused", CONTRADICTED),
    ] {
        assert_eq!(said(outcome, now), expected, "{outcome} {now}");
    }
    assert_eq!(wrongs(Some(refund_id(2)), "done", stands("paid", &[])), MISSING, "it is not there");
}

/// An automatic refund is logged under the key of its payment, as an outcome of the payment.
#[test]
fn money_returned_by_hand_is_missed_where_its_refund_is_refused() {
    let said = |refunds: &[_]| wrongs(Some(refund_id(2)), "refunded", stands("paid", refunds));
    assert_eq!(said(&[(2, true, "refused", Some("NOT_CANCELABLE"))]), MISSING);
    assert_eq!(said(&[(2, true, "done", Some("TICKET_1"))]), AGREED);
    // The rest of the payment is a refund of its own.
    let rest = |code| [(2, true, "refused", None), (3, true, "done", Some(code))];
    assert_eq!(said(&rest("TICKET_1")), AGREED);
    assert_eq!(said(&rest("TICKET_2")), MISSING);
}

#[test]
fn a_word_without_a_key_is_counted_and_compared_with_nothing() {
    let Ok(Entry { event: Event::PaymentResolved(said), .. }) = Entry::parse(&resolved(10, None, "paid"))
    else {
        panic!("no word");
    };
    let of_before = Event::PaymentResolved(Resolved { brand: None, key: None, ..said });
    let log = log(vec![resolved(9, None, "paid"), entry(10, of_before)]);
    assert_eq!(wrong(&log, None), Some(FindingKind::Unaccounted), "the one that has a key");
    let mut reach = Reach::default();
    log.iter().for_each(|entry| reach.take(entry));
    assert_eq!(reach.words_without_key, 1);
}
