//! The queues of held rows, one turn at a time.

use bridge_protocol::domain::{Brand, IdempotencyKey, OrderId, Sku, UnixMicros};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::{Received, Receiver, Token};
use bridge_protocol::wire::order::{Ask, ToIdc, to_idc};
use bytes::Bytes;

use super::*;

fn brand() -> Brand {
    Brand::new("shoes").unwrap()
}

fn order(number: u32) -> OrderId {
    let mut random = [0; 10];
    random[6..].copy_from_slice(&number.to_be_bytes());
    OrderId::new(UnixMicros::new(1), random)
}

/// Returns limits of this many requests and any number of lines.
fn up_to(requests: usize) -> BatchLimits {
    BatchLimits { requests, lines: usize::MAX }
}

/// Returns a token. The queues pass it on and do not read it.
fn token() -> Token {
    let ask = Ask { brand: "shoes".into(), order: Bytes::copy_from_slice(order(0).as_bytes()), key: None };
    let message = ToIdc {
        request: 1,
        kind: Some(to_idc::Kind::Ask(ask)),
        sequence: 1,
        trace: None,
        remaining_millis: None,
    };
    match Receiver::new(8).handle_message(LinkId(1), 0, message) {
        Received::Deliver(token, _) => token,
        other => panic!("{other:?}"),
    }
}

/// Returns a cancellation of an order. The queues treat all writes alike.
fn request(key: &str, number: u32) -> Request {
    let key = IdempotencyKey::parse(key.as_bytes()).unwrap().digest(&brand());
    Request { brand: brand(), key, fingerprint: [1; 32], action: Action::Cancel { order: order(number) } }
}

fn pending(key: &str, number: u32) -> Pending {
    Pending { token: token(), request: request(key, number), doubtful: false }
}

fn stock(sku: &str) -> Awaited {
    Awaited::Stock { brand: brand(), sku: Sku::new(sku).unwrap() }
}

/// Returns the orders of these requests.
fn orders(requests: &[Pending]) -> Vec<OrderId> {
    requests.iter().map(|pending| pending.request.action.order()).collect()
}

#[test]
fn a_request_about_a_waiting_or_tried_one_queues_behind_it() {
    let mut queues = Queues::default();
    let shoe = stock("SHOE");
    queues.push(shoe.clone(), pending("k1", 1));
    for concerned in [request("k1", 2), request("c1", 1)] {
        assert_eq!(queues.needed_by(&concerned), Some(shoe.clone()));
    }
    assert_eq!(queues.needed_by(&request("k2", 2)), None);
    let turn = queues.next_turn(up_to(8)).unwrap();
    assert_eq!((orders(&turn.requests), queues.len()), (vec![order(1)], 1), "it counts while it is tried");
    assert_eq!(queues.needed_by(&request("c1", 1)), Some(shoe.clone()), "while it is tried");
    queues.end_turn(shoe.clone(), turn.requests, Vec::new());
    assert_eq!((queues.needed_by(&request("c1", 1)), queues.len()), (Some(shoe.clone()), 1));
    let turn = queues.next_turn(up_to(8)).unwrap();
    assert!(turn.again);
    queues.end_turn(shoe, Vec::new(), Vec::new());
    assert_eq!(queues.needed_by(&request("c1", 1)), None);
    assert!(queues.is_empty() && queues.next_turn(up_to(8)).is_none());
}

#[test]
fn a_request_that_changes_its_queue_takes_related_ones_along() {
    let mut queues = Queues::default();
    let (shoe, sock) = (stock("SHOE"), stock("SOCK"));
    for (key, number) in [("k1", 1), ("k2", 2), ("c1", 1), ("k1", 3)] {
        queues.push(shoe.clone(), pending(key, number));
    }
    let turn = queues.next_turn(up_to(1)).unwrap();
    let elsewhere = turn.requests.into_iter().map(|pending| (sock.clone(), pending)).collect();
    queues.end_turn(shoe.clone(), Vec::new(), elsewhere);
    assert_eq!(queues.len(), 4);
    assert_eq!(queues.needed_by(&request("c1-again", 1)), Some(sock.clone()));
    assert_eq!(queues.needed_by(&request("c2", 2)), Some(shoe));
    let turns = [queues.next_turn(up_to(8)).unwrap(), queues.next_turn(up_to(8)).unwrap()];
    let moved = turns.iter().find(|turn| turn.awaited == sock).unwrap();
    assert_eq!(orders(&moved.requests), [1, 1, 3].map(order), "in the order of admission");
}

#[test]
fn one_of_four_turns_is_kept_for_promising_queues() {
    let mut queues = Queues::default();
    let skus = ["A", "B", "C", "D", "E", "F"];
    for (number, sku) in (0..).zip(skus) {
        queues.push(stock(sku), pending(sku, number));
    }
    let turns: Vec<QueueTurn> = std::iter::from_fn(|| queues.next_turn(up_to(8))).collect();
    assert_eq!(turns.len(), 4);
    for turn in turns {
        queues.end_turn(turn.awaited, turn.requests, Vec::new());
    }
    let turns: Vec<QueueTurn> = std::iter::from_fn(|| queues.next_turn(up_to(8))).collect();
    let again = turns.iter().filter(|turn| turn.again).count();
    assert_eq!((turns.len(), again), (4, 2), "two were never tried, and go before a third that was");
    queues.push(stock("G"), pending("G", 9));
    assert!(queues.next_turn(up_to(8)).is_none(), "four at a time");
}

/// If each new request were compared with all that wait, this test would take hours.
#[test]
fn however_many_wait_a_new_one_is_not_compared_with_each() {
    const REQUESTS: u32 = 200_000;
    let mut queues = Queues::default();
    let token = token();
    for number in 0..REQUESTS {
        let request = request(&number.to_string(), number);
        assert_eq!(queues.needed_by(&request), None);
        queues.push(stock("SHOE"), Pending { token, request, doubtful: false });
    }
    for number in 0..REQUESTS {
        assert!(queues.needed_by(&request("cancel", number)).is_some());
    }
    assert_eq!(queues.len(), 200_000);
}
