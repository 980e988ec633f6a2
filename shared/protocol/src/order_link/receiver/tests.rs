//! Tests of the receiver, one frame at a time.

use super::*;
use crate::domain::UnixMicros;
use crate::wire::payment::{Pay, Refund};

fn order(n: u8) -> OrderId {
    OrderId::new(UnixMicros::new(1), [n; 10])
}

fn key(n: u8) -> KeyDigest {
    KeyDigest::from_bytes(&[n; 32]).unwrap()
}

fn cancel(request: u64, sequence: u64, key: u8) -> ToIdc {
    let kind = to_idc::Kind::Cancel(Cancel {
        brand: "shoes".into(),
        order: Bytes::copy_from_slice(order(key).as_bytes()),
        key: Bytes::copy_from_slice(&[key; 32]),
    });
    ToIdc { request, kind: Some(kind), sequence, trace: None, remaining_millis: None }
}

fn envelope(n: u8) -> Envelope {
    Envelope {
        brand: "shoes".into(),
        order: Bytes::copy_from_slice(order(n).as_bytes()),
        key: Bytes::copy_from_slice(&[n; 32]),
        ..Envelope::default()
    }
}

/// Returns an order as the `n`th message of its lane.
fn place(n: u8, envelope: Envelope) -> ToIdc {
    let n = u64::from(n);
    ToIdc {
        request: n,
        kind: Some(to_idc::Kind::Place(envelope)),
        sequence: n,
        trace: None,
        remaining_millis: None,
    }
}

fn deliver(receiver: &mut Receiver, link: u64, message: ToIdc) -> Token {
    match receiver.handle_message(LinkId(link), 0, message) {
        Received::Deliver(token, _) => token,
        other => panic!("not delivered: {other:?}"),
    }
}

fn busy() -> to_cloud::Kind {
    to_cloud::Kind::Refused(Refusal::Busy.into())
}

#[test]
fn a_request_on_two_links_is_delivered_once_and_answered_to_both() {
    let mut receiver = Receiver::new(8);
    let token = deliver(&mut receiver, 1, cancel(10, 1, 7));
    assert_eq!(receiver.handle_message(LinkId(2), 0, cancel(11, 1, 7)), Received::Duplicate);
    let replies = receiver.answer(token, busy());
    let to: Vec<_> = replies.iter().map(|reply| (reply.link.0, reply.message.request)).collect();
    assert_eq!(to, [(1, 10), (2, 11)]);
    assert_eq!(receiver.under_way(), 0);
}

#[test]
fn a_cancellation_under_its_orders_key_is_not_answered_as_placed() {
    let mut receiver = Receiver::new(8);
    let cancel = cancel(11, 2, 7);
    let Some(to_idc::Kind::Cancel(Cancel { brand, order, key })) = cancel.kind.clone() else {
        unreachable!("it cancels")
    };
    let place = to_idc::Kind::Place(Envelope { brand, order, key, ..Envelope::default() });
    let placing = deliver(
        &mut receiver,
        1,
        ToIdc { request: 10, kind: Some(place), sequence: 1, trace: None, remaining_millis: None },
    );
    let cancelling = deliver(&mut receiver, 1, cancel);
    for (token, request) in [(placing, 10), (cancelling, 11)] {
        let replies = receiver.answer(token, busy());
        assert_eq!(replies.iter().map(|reply| reply.message.request).collect::<Vec<_>>(), [request]);
    }
}

#[test]
fn a_frame_that_comes_twice_is_taken_once() {
    let mut receiver = Receiver::new(8);
    let token = deliver(&mut receiver, 1, cancel(10, 1, 7));
    receiver.answer(token, busy());
    assert_eq!(receiver.handle_message(LinkId(1), 0, cancel(10, 1, 7)), Received::Duplicate);
    deliver(&mut receiver, 1, cancel(10, 2, 7));
}

#[test]
fn what_exceeds_the_window_is_refused_as_busy() {
    let mut receiver = Receiver::new(1);
    deliver(&mut receiver, 1, cancel(10, 1, 7));
    let Received::Answer(reply) = receiver.handle_message(LinkId(1), 0, cancel(11, 2, 8)) else {
        panic!("the window holds one")
    };
    assert_eq!(reply.message, ToCloud { request: 11, kind: Some(busy()) });
}

#[test]
fn a_link_that_floods_is_refused_and_another_is_not() {
    let mut receiver = Receiver::new(80);
    let mut flood = Vec::new();
    for n in 1..=100 {
        if let Received::Deliver(token, _) = receiver.handle_message(LinkId(1), 0, cancel(n, n, n as u8)) {
            flood.push(token);
        }
    }
    assert_eq!(flood.len(), Receiver::window_of_a_link(80));
    deliver(&mut receiver, 2, cancel(1, 1, 200));
    receiver.answer(flood[0], busy());
    receiver.handle_link_down(LinkId(1));
    assert!(matches!(receiver.handle_message(LinkId(1), 0, cancel(1, 1, 201)), Received::Answer(_)));
    deliver(&mut receiver, 2, cancel(2, 2, 202));
    for token in flood {
        receiver.answer(token, busy());
    }
    deliver(&mut receiver, 1, cancel(2, 2, 203));
}

#[test]
fn large_orders_are_bounded_by_their_bytes() {
    let mut receiver = Receiver::new(10_000);
    let ciphertext = Bytes::from(vec![0; 1 << 20]);
    let mut placed = 0;
    for n in 1..=200_u64 {
        let Some(to_idc::Kind::Cancel(Cancel { brand, order, key })) = cancel(n, n, n as u8).kind else {
            unreachable!("it cancels")
        };
        let envelope = Envelope { brand, order, key, ciphertext: ciphertext.clone(), ..Envelope::default() };
        let message = ToIdc {
            request: n,
            kind: Some(to_idc::Kind::Place(envelope)),
            sequence: n,
            trace: None,
            remaining_millis: None,
        };
        placed +=
            usize::from(matches!(receiver.handle_message(LinkId(1), 0, message), Received::Deliver(..)));
    }
    // An eighth of 128 MiB is reserved for other links.
    assert_eq!(placed, 112);
    deliver(&mut receiver, 1, cancel(201, 201, 201));
}

#[test]
fn the_bytes_of_an_order_are_those_of_all_its_parts() {
    let half = Bytes::from(vec![0; shares::alone(BYTES_MAX) / 2]);
    let parts: [fn(&mut Envelope) -> &mut Bytes; 3] =
        [|order| &mut order.terms, |order| &mut order.ciphertext, |order| &mut order.encapsulation];
    for part in parts {
        let mut receiver = Receiver::new(8);
        let mut send = |n: u8| {
            let mut envelope = envelope(n);
            *part(&mut envelope) = half.clone();
            receiver.handle_message(LinkId(1), 0, place(n, envelope))
        };
        assert!(matches!([send(1), send(2)], [Received::Deliver(..), Received::Deliver(..)]));
        assert!(matches!(send(3), Received::Answer(Reply { message, .. }) if message.kind == Some(busy())));
    }
}

#[test]
fn an_order_is_handed_over_as_it_came() {
    let sent = Envelope { terms: Bytes::from_static(b"terms"), ..envelope(7) };
    let received = Receiver::new(8).handle_message(LinkId(1), 0, place(1, sent.clone()));
    let Received::Deliver(_, Delivery::Place(received)) = received else {
        panic!("not delivered: {received:?}")
    };
    assert_eq!(received.envelope(), &sent);
    let header = Header { brand: Brand::new("shoes").unwrap(), order: order(7), key: key(7) };
    assert_eq!(received.header(), &header);
}

#[test]
fn a_question_is_delivered_with_or_without_its_key_if_valid() {
    let (brand, id) = (Brand::new("shoes").unwrap(), Bytes::copy_from_slice(order(7).as_bytes()));
    let payment = PaymentId::from_bytes(&id).unwrap();
    let keys = [(None, Some(None)), (Some(32), Some(Some(key(7)))), (Some(31), None)];
    for (bytes, expected) in keys {
        let asked = bytes.map(|bytes| Bytes::from(vec![7; bytes]));
        let ask = Ask { brand: "shoes".into(), order: id.clone(), key: asked.clone() };
        let (brand, order) = (brand.clone(), order(7));
        let expected_of_payment =
            expected.map(|key| Delivery::AskPayment { brand: brand.clone(), order, payment, key });
        assert_eq!(
            delivery(to_idc::Kind::Ask(ask)),
            expected.map(|key| Delivery::Ask { brand: brand.clone(), order, key })
        );
        let (order, payment) = (id.clone(), id.clone());
        let ask = AskPayment { brand: "shoes".into(), order, payment, key: asked };
        assert_eq!(delivery(to_idc::Kind::AskPayment(ask)), expected_of_payment);
    }
}

#[test]
fn a_write_is_found_by_order_and_key_until_it_ends() {
    let mut receiver = Receiver::new(8);
    let none = |receiver: &Receiver| {
        (receiver.writes_of(order(7)), receiver.is_writing(order(7), Some(key(7)))) == (0, false)
    };
    assert!(none(&receiver));
    let placing = deliver(&mut receiver, 1, place(1, envelope(7)));
    let cancelling = deliver(&mut receiver, 1, cancel(2, 2, 7));
    assert_eq!(receiver.writes_of(order(7)), 2);
    for n in 7..9 {
        assert_eq!(receiver.is_writing(order(n), None), n == 7);
        assert_eq!(receiver.is_writing(order(9), Some(key(n))), n == 7);
    }
    assert!(receiver.is_writing(order(7), Some(key(8))));
    receiver.answer(placing, busy());
    assert_eq!((receiver.writes_of(order(7)), receiver.under_way()), (1, 1));
    assert!(receiver.is_writing(order(7), None));
    receiver.answer(cancelling, busy());
    assert!(none(&receiver));
    assert!(receiver.written.is_empty(), "a count of zero is kept");
}

#[test]
fn an_abandoned_request_is_not_answered_and_delivered_when_asked_again() {
    let mut receiver = Receiver::new(1);
    let token = deliver(&mut receiver, 1, cancel(10, 1, 7));
    receiver.abandon(token);
    assert_eq!(receiver.under_way(), 0);
    let again = deliver(&mut receiver, 1, cancel(11, 2, 7));
    assert!(receiver.answer(token, busy()).is_empty());
    assert_eq!(receiver.answer(again, busy()).len(), 1);
}

#[test]
fn a_lost_link_s_requests_go_on_and_are_answered_to_nobody() {
    let mut receiver = Receiver::new(8);
    let token = deliver(&mut receiver, 1, cancel(10, 1, 7));
    receiver.handle_link_down(LinkId(1));
    assert_eq!(receiver.under_way(), 1);
    assert!(receiver.answer(token, busy()).is_empty());
}

#[test]
fn nothing_is_kept_of_a_link_that_is_down() {
    let mut receiver = Receiver::new(8);
    let mut tokens = Vec::new();
    for link in 1..=1_000 {
        tokens.push(deliver(&mut receiver, link, cancel(1, 1, 7)));
        // A message on another lane, and a frame that comes twice.
        let Received::Answer(_) =
            receiver.handle_message(LinkId(link), 1, ToIdc { kind: None, ..cancel(2, 1, 7) })
        else {
            panic!("the message has no kind, and is not answered")
        };
        assert_eq!(receiver.handle_message(LinkId(link), 0, cancel(1, 1, 7)), Received::Duplicate);
        receiver.handle_link_down(LinkId(link));
        assert!(receiver.answer(tokens[tokens.len() - 1], busy()).is_empty());
    }
    assert_eq!(receiver.sequences.len(), 0, "frames of ended links are still counted");
    assert_eq!((receiver.waiting.len(), receiver.writes.len()), (0, 0));
}

#[test]
fn a_refund_under_its_payments_key_is_a_separate_request() {
    let mut receiver = Receiver::new(8);
    let id = Bytes::copy_from_slice(OrderId::new(UnixMicros::new(1), [7; 10]).as_bytes());
    let (brand, key, currency) = ("shoes".to_owned(), Bytes::copy_from_slice(&[7; 32]), "KRW".to_owned());
    let pay = to_idc::Kind::Pay(Pay {
        brand: brand.clone(),
        order: id.clone(),
        key: key.clone(),
        payment: id.clone(),
        amount: 1,
        currency: currency.clone(),
        payment_key: "tgen_1".to_owned(),
    });
    let refund = to_idc::Kind::Refund(Refund {
        brand,
        order: id.clone(),
        key,
        payment: id.clone(),
        refund: id,
        amount: 1,
        currency,
        reason: "it came back".to_owned(),
    });
    let send = |sequence, kind: &to_idc::Kind| ToIdc {
        request: sequence,
        kind: Some(kind.clone()),
        sequence,
        trace: None,
        remaining_millis: None,
    };
    deliver(&mut receiver, 1, send(1, &pay));
    deliver(&mut receiver, 1, send(2, &refund));
    assert_eq!(receiver.handle_message(LinkId(1), 0, send(3, &pay)), Received::Duplicate);
    assert_eq!(receiver.handle_message(LinkId(1), 0, send(4, &refund)), Received::Duplicate);
    // Another body is another request, pending or not. The ledger answers that the key is used.
    let mut other = pay.clone();
    if let to_idc::Kind::Pay(pay) = &mut other {
        pay.amount = 2;
    }
    deliver(&mut receiver, 1, send(5, &other));
    let mut other = refund.clone();
    if let to_idc::Kind::Refund(refund) = &mut other {
        refund.reason = "it is too small".to_owned();
    }
    deliver(&mut receiver, 1, send(6, &other));
    let mut again = pay.clone();
    if let to_idc::Kind::Pay(pay) = &mut again {
        pay.payment = Bytes::copy_from_slice(OrderId::new(UnixMicros::new(2), [8; 10]).as_bytes());
    }
    assert_eq!(receiver.handle_message(LinkId(1), 0, send(7, &again)), Received::Duplicate);
}

#[test]
fn a_message_in_no_known_form_is_refused_as_invalid() {
    let mut receiver = Receiver::new(8);
    let mut short_key = cancel(10, 1, 7);
    if let Some(to_idc::Kind::Cancel(cancel)) = &mut short_key.kind {
        cancel.key.truncate(31);
    }
    for message in
        [short_key, ToIdc { request: 11, kind: None, sequence: 2, trace: None, remaining_millis: None }]
    {
        assert!(matches!(receiver.handle_message(LinkId(1), 0, message), Received::Answer(_)));
    }
    assert_eq!(receiver.under_way(), 0);
}

#[test]
fn a_write_is_late_once_its_callers_time_has_passed() {
    let mut receiver = Receiver::new(8);
    let mut token = |number: u8, remaining_millis| {
        receiver.set_time(Duration::from_secs(100));
        let message = ToIdc { remaining_millis, ..cancel(u64::from(number), u64::from(number), number) };
        deliver(&mut receiver, 1, message)
    };
    let [timed, passed, untimed] = [(1, Some(500)), (2, Some(0)), (3, None)].map(|(n, left)| token(n, left));
    let is_late = |receiver: &Receiver| [timed, passed, untimed].map(|token| receiver.is_late(token));
    assert_eq!(is_late(&receiver), [false, true, false]);
    receiver.set_time(Duration::from_millis(100_499));
    assert_eq!(is_late(&receiver), [false, true, false]);
    receiver.set_time(Duration::from_millis(100_500));
    assert_eq!(is_late(&receiver), [true, true, false]);
    receiver.answer(timed, busy());
    assert!(!receiver.is_late(timed), "it has ended");
}

#[test]
fn a_write_is_late_once_the_last_of_its_callers_is_gone() {
    let mut receiver = Receiver::new(8);
    let token = deliver(&mut receiver, 1, ToIdc { remaining_millis: Some(500), ..cancel(10, 1, 7) });
    let longer = ToIdc { remaining_millis: Some(900), ..cancel(11, 1, 7) };
    assert_eq!(receiver.handle_message(LinkId(2), 0, longer), Received::Duplicate);
    receiver.set_time(Duration::from_millis(899));
    assert!(!receiver.is_late(token));
    receiver.set_time(Duration::from_millis(900));
    assert!(receiver.is_late(token));
}

#[test]
fn a_caller_that_named_no_time_is_told_busy_instead_of_late() {
    let mut receiver = Receiver::new(8);
    let token = deliver(&mut receiver, 1, ToIdc { remaining_millis: Some(1), ..cancel(10, 1, 7) });
    assert_eq!(receiver.handle_message(LinkId(2), 0, cancel(11, 1, 7)), Received::Duplicate);
    let late = to_cloud::Kind::Refused(Refusal::Late.into());
    let told = receiver.answer(token, late.clone()).into_iter().map(|reply| reply.message.kind);
    assert_eq!(told.collect::<Vec<_>>(), [Some(late), Some(busy())]);
}
