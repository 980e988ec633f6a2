//! The queues of held rows, one turn at a time.

use bridge_protocol::domain::{Brand, IdempotencyKey, OrderId, Sku, UnixMicros};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::{Received, Receiver, Token};
use bridge_protocol::wire::order::{Ask, ToIdc, to_idc};
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::orders::store::AWAITED_AT_ONCE;

const NOW: UnixMicros = UnixMicros::new(1);

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
    Pending { token: token(), request: request(key, number), doubtful: false, since: NOW }
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
fn one_of_a_brands_turns_is_kept_for_promising_queues() {
    let mut queues = Queues::default();
    let skus = ["A", "B", "C", "D", "E", "F"];
    for (number, sku) in (0..).zip(skus) {
        queues.push(stock(sku), pending(sku, number));
    }
    let turns = begin_turns(&mut queues);
    assert_eq!(turns.len(), 3, "the fourth is for another brand");
    for turn in turns {
        end_in_vain(&mut queues, turn);
    }
    let turns = begin_turns(&mut queues);
    let again = turns.iter().filter(|turn| turn.again).count();
    assert_eq!((turns.len(), again), (3, 1), "those that were never tried go before a second that was");
    turns.into_iter().for_each(|turn| end_in_vain(&mut queues, turn));
    let _third = begin_turns(&mut queues);
    let turns = begin_turns(&mut queues);
    assert!(turns.is_empty());
    queues.push(stock("G"), pending("G", 9));
    assert!(queues.next_turn(up_to(8)).is_none(), "three at a time");
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
        queues.push(stock("SHOE"), Pending { token, request, doubtful: false, since: NOW });
    }
    for number in 0..REQUESTS {
        assert!(queues.needed_by(&request("cancel", number)).is_some());
    }
    assert_eq!(queues.len(), 200_000);
}

fn named(name: &str) -> Brand {
    Brand::new(name).unwrap()
}

/// Returns a request of a brand, and the row that it needs.
fn of_brand(name: &str, sku: &str, number: u32) -> (Awaited, Pending) {
    let brand = named(name);
    let key = IdempotencyKey::parse(format!("k{number}").as_bytes()).unwrap().digest(&brand);
    let action = Action::Cancel { order: order(number) };
    let request = Request { brand: brand.clone(), key, fingerprint: [1; 32], action };
    let row = Awaited::Stock { brand, sku: Sku::new(sku).unwrap() };
    (row, Pending { token: token(), request, doubtful: false, since: NOW })
}

/// Adds this many requests of a brand. Returns the orders of those that were refused.
fn add(queues: &mut Queues, name: &str, sku: &str, numbers: std::ops::Range<u32>) -> Vec<OrderId> {
    let mut refused = Vec::new();
    for number in numbers {
        let (row, pending) = of_brand(name, sku, number);
        refused.extend(queues.push_if_room(row, pending, 8));
    }
    orders(&refused)
}

#[test]
fn a_brand_within_its_share_takes_the_newest_ones_place() {
    let weights = [(named("c"), 2)].into_iter().collect();
    let mut queues = Queues::new(weights);
    assert_eq!(add(&mut queues, "a", "ONE", 0..5), []);
    assert_eq!(add(&mut queues, "a", "TWO", 5..10), [8, 9].map(order), "alone it may have everything");
    assert_eq!(add(&mut queues, "b", "ONE", 20..24), [4, 3, 7, 2].map(order));
    assert_eq!(add(&mut queues, "b", "ONE", 24..25), [24].map(order), "it has its share");
    // Of the weights 1, 1 and 2 the last one's share is a half.
    assert_eq!(add(&mut queues, "c", "ONE", 30..34).len(), 4);
    assert_eq!(add(&mut queues, "c", "ONE", 34..35), [34].map(order));
    assert_eq!((queues.len(), add(&mut queues, "a", "ONE", 40..41)), (8, vec![order(40)]));
    while let Some(turn) = queues.next_turn(up_to(8)) {
        queues.end_turn(turn.awaited, Vec::new(), Vec::new());
    }
    let is_over = (queues.len(), queues.is_empty());
    assert_eq!(is_over, (0, true), "a queue whose requests left keeps no turn");
    assert_eq!(add(&mut queues, "a", "ONE", 50..58), []);
}

#[test]
fn what_is_tried_stays_and_a_modest_brand_comes_on_top() {
    let mut queues = Queues::default();
    // The shares of a third and of a half are rounded down.
    for (name, numbers, share) in [("a", 0..9, 8), ("b", 10..15, 4), ("c", 20..23, 2)] {
        let one_more = order(numbers.end - 1);
        assert_eq!(add(&mut queues, name, "ONE", numbers), [one_more]);
        assert_eq!(queues.next_turn(up_to(8)).unwrap().requests.len(), share);
    }
    for (number, name) in (30..).zip(["d", "e"]) {
        assert_eq!(add(&mut queues, name, "ONE", number..number + 1), []);
    }
    assert_eq!(queues.len(), 16);
    // The rest of the window stays for requests that need no held row.
    assert_eq!(add(&mut queues, "f", "ONE", 40..41), [order(40)], "at most twice as many wait");
}

/// Begins the turns that may begin now.
fn begin_turns(queues: &mut Queues) -> Vec<QueueTurn> {
    std::iter::from_fn(|| queues.next_turn(up_to(8))).collect()
}

fn end_in_vain(queues: &mut Queues, turn: QueueTurn) {
    queues.end_turn(turn.awaited, turn.requests, Vec::new());
}

/// Adds a request of a brand that needs one of its rows.
fn hold(queues: &mut Queues, name: &str, sku: &str, number: u32) {
    let (row, pending) = of_brand(name, sku, number);
    queues.push(row, pending);
}

fn brand_of(turn: &QueueTurn) -> &str {
    turn.requests[0].request.brand.as_str()
}

#[test]
fn many_held_rows_of_a_brand_leave_places_to_other_brands() {
    let mut queues = Queues::default();
    for number in 0..100 {
        hold(&mut queues, "red", &format!("R{number}"), number);
    }
    let mut under_way = VecDeque::new();
    for _ in 0..300 {
        under_way.extend(begin_turns(&mut queues));
        assert!(under_way.len() < AWAITED_AT_ONCE, "red has all places");
        let turn = under_way.pop_front().unwrap();
        end_in_vain(&mut queues, turn);
    }
    under_way.extend(begin_turns(&mut queues));
    let mut others = Vec::new();
    for (name, number) in [("green", 200), ("blue", 300)] {
        hold(&mut queues, name, "ROW", number);
        let turns = begin_turns(&mut queues);
        assert_eq!(turns.iter().map(brand_of).collect::<Vec<_>>(), [name], "at once");
        others.extend(turns);
    }
    hold(&mut queues, "yellow", "ROW", 400);
    assert!(begin_turns(&mut queues).is_empty(), "four at a time");
    let red = under_way.pop_front().unwrap();
    end_in_vain(&mut queues, red);
    let yellow = begin_turns(&mut queues);
    assert_eq!(yellow.iter().map(brand_of).collect::<Vec<_>>(), ["yellow"], "before the many others of red");
}

#[test]
fn a_fresh_queue_and_a_known_one_take_turns_at_one_place() {
    let mut queues = Queues::default();
    for (number, name) in (0..).zip(["a", "b", "c"]) {
        hold(&mut queues, name, "LONG", number);
    }
    let _long = begin_turns(&mut queues);
    hold(&mut queues, "red", "HELD", 10);
    let mut tried = Vec::new();
    for number in 20..24 {
        hold(&mut queues, "red", &format!("R{number}"), number);
        for turn in begin_turns(&mut queues) {
            tried.push(turn.again);
            end_in_vain(&mut queues, turn);
        }
    }
    assert_eq!(tried, [false, true, false, true]);
}

#[test]
fn a_queue_pauses_only_if_it_was_tried_a_moment_ago() {
    let mut queues = Queues::default();
    queues.push(stock("A"), pending("a", 1));
    for (millis, again) in [(0, false), (499, true), (1_000, false), (1_001, true)] {
        queues.set_time(Duration::from_millis(millis));
        let turn = queues.next_turn(up_to(8)).unwrap();
        assert_eq!(turn.again, again, "at {millis} ms");
        end_in_vain(&mut queues, turn);
    }
}

proptest! {
    /// However many rows of other brands are held, and whatever their turns ended with, a brand
    /// that comes new waits for at most one queue of each other brand.
    #[test]
    fn a_new_brand_waits_for_one_queue_of_each_other_brand(
        weights in prop::collection::vec(prop_oneof![Just(1), Just(1_000), 1..=1_000_usize], 6),
        rows in prop::collection::vec(0..5_usize, 1..60),
        ends in prop::collection::vec((0..4_usize, 0..3_u8), 0..200),
    ) {
        let names = ["a", "b", "c", "d", "e", "new"];
        let mut queues = Queues::new(names.iter().zip(weights).map(|(name, weight)| (named(name), weight)).collect());
        let mut next = 0;
        let mut hold_next = |queues: &mut Queues, name: &str, sku: &str| {
            next += 1;
            hold(queues, name, sku, next);
        };
        for (number, brand) in rows.iter().enumerate() {
            hold_next(&mut queues, names[*brand], &format!("R{number}"));
        }
        let mut under_way: Vec<QueueTurn> = Vec::new();
        for (at, end) in ends {
            under_way.extend(begin_turns(&mut queues));
            let turn = under_way.swap_remove(at % under_way.len());
            let again = if end == 0 { Vec::new() } else { turn.requests };
            if again.is_empty() {
                hold_next(&mut queues, names[at], "OTHER");
            }
            queues.end_turn(turn.awaited, again, Vec::new());
        }
        under_way.extend(begin_turns(&mut queues));
        hold_next(&mut queues, "new", "N");
        let mut others = 0;
        'until_its_turn: loop {
            while let Some(turn) = queues.next_turn(up_to(8)) {
                if brand_of(&turn) == "new" {
                    break 'until_its_turn;
                }
                others += 1;
                under_way.push(turn);
            }
            prop_assert!(others <= 5, "{} queues went before it", others);
            end_in_vain(&mut queues, under_way.swap_remove(0));
        }
        prop_assert!(others <= 5, "{} queues went before it", others);
    }
}

/// A step of the property test.
#[derive(Debug, Clone)]
enum Step {
    /// Adds a request of a brand that needs one of its rows, and may be in doubt.
    Add(usize, usize, bool),
    Turn,
    /// Ends the oldest turn. Each request ends, waits again, or waits for another row.
    End(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..5_usize, 0..3_usize, prop::bool::weighted(0.05))
            .prop_map(|(brand, sku, doubtful)| Step::Add(brand, sku, doubtful)),
        1 => Just(Step::Turn),
        1 => prop::collection::vec(0..3_u8, 4).prop_map(Step::End),
    ]
}

proptest! {
    /// At most twice the limit wait, besides requests in doubt. A brand within its share is refused
    /// only then. A request that is refused had no effect. Every request ends.
    #[test]
    fn shares_of_brands_are_kept_and_the_total_is_bounded(steps in prop::collection::vec(step(), 1..150)) {
        const MAX: usize = 8;
        let (names, skus) = (["a", "b", "c", "d", "e"], ["ONE", "TWO", "THREE"]);
        let mut queues = Queues::new([(named("b"), 3)].into_iter().collect());
        let (mut turns, mut added, mut ended, mut doubtful) = (VecDeque::new(), 0, 0, 0);
        for step in steps {
            match step {
                Step::Add(brand, sku, in_doubt) => {
                    let before = queues.len();
                    let (row, pending) = of_brand(names[brand], skus[sku], added);
                    let mine = queues.brands.of(&pending.request.brand);
                    let share = queues.brands.share_of(&pending.request.brand, MAX);
                    added += 1;
                    doubtful += usize::from(in_doubt);
                    let refused = queues.push_if_room(row, Pending { doubtful: in_doubt, ..pending }, MAX);
                    let Some(refused) = refused else { continue };
                    ended += 1;
                    prop_assert!(!refused.doubtful && queues.len() == before && before >= MAX);
                    let it_is_new = refused.request.action.order() == order(added - 1);
                    let may = share.allows_one_more(mine);
                    prop_assert!(may != it_is_new || before >= 2 * MAX, "{refused:?}");
                }
                Step::Turn => turns.extend(queues.next_turn(up_to(4))),
                Step::End(ends) => {
                    let Some(QueueTurn { awaited, requests, .. }) = turns.pop_front() else { continue };
                    let (mut again, mut elsewhere) = (Vec::new(), Vec::new());
                    for (pending, end) in requests.into_iter().zip(ends) {
                        let brand = pending.request.brand.clone();
                        match end {
                            0 => ended += 1,
                            1 => again.push(pending),
                            _ => elsewhere.push((
                                Awaited::Stock { brand, sku: Sku::new("FOUR").unwrap() },
                                pending,
                            )),
                        }
                    }
                    queues.end_turn(awaited, again, elsewhere);
                }
            }
            prop_assert!(queues.len() <= 2 * MAX + doubtful, "{} wait", queues.len());
            prop_assert_eq!(queues.len(), added as usize - ended);
        }
        for QueueTurn { awaited, requests, .. } in turns {
            ended += requests.len();
            queues.end_turn(awaited, Vec::new(), Vec::new());
        }
        while let Some(turn) = queues.next_turn(up_to(4)) {
            ended += turn.requests.len();
            queues.end_turn(turn.awaited, Vec::new(), Vec::new());
        }
        prop_assert_eq!((queues.len(), ended), (0, added as usize));
        prop_assert!(queues.is_empty() && queues.turns.is_empty());
        prop_assert_eq!(queues.brands.share_of(&named("b"), MAX).busy_weight, 3);
    }
}
