//! Tests with several brands. Each has its share of the links and of the queue, independently of
//! the others.

use super::*;

const SHOES: BrandIndex = BrandIndex(0);
const TEA: BrandIndex = BrandIndex(1);
const HATS: BrandIndex = BrandIndex(2);
const KEY: KeyId = KeyId([1; 8]);

/// Makes a sender with a queue for four requests and a link without room.
fn crowded(weights: &[usize]) -> Sender {
    let mut sender = Sender::with_weights(SenderLimits { queue_max: 4, ..limits() }, weights);
    sender.handle_link_up(at(0), A, 1, 0);
    sender
}

fn submit_of(sender: &mut Sender, brand: BrandIndex, number: u8) -> Result<RequestId, Rejected> {
    let (order, kind) = cancel(number);
    sender.submit(at(0), brand, order, kind, BODY)
}

fn flood(sender: &mut Sender, numbers: std::ops::Range<u8>) {
    numbers.for_each(|number| assert!(submit_of(sender, SHOES, number).is_ok()));
}

#[test]
fn one_brands_flood_fills_no_other_brands_queue() {
    let mut sender = crowded(&[1, 1]);
    flood(&mut sender, 1..5);
    assert_eq!(submit_of(&mut sender, SHOES, 5), Err(Rejected::Full));
    for number in [6, 7] {
        submit_of(&mut sender, TEA, number).unwrap();
    }
    assert_eq!(drain(&mut sender), ["4 pushed out", "3 pushed out"], "the newest of the flood first");
    assert_eq!(submit_of(&mut sender, TEA, 8), Err(Rejected::Full), "half of the queue is its share");
    assert_eq!((sender.queued(RequestClass::Write), sender.unsettled()), (4, 4));
    sender.handle_window(at(1), A, 8);
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "link 1 <- 5", "link 1 <- 2", "link 1 <- 6"]);
}

#[test]
fn what_was_pushed_out_may_come_again_under_its_key() {
    let mut sender = crowded(&[1, 1]);
    flood(&mut sender, 1..5);
    submit_of(&mut sender, TEA, 6).unwrap();
    assert_eq!(drain(&mut sender), ["4 pushed out"]);
    assert!(!sender.is_unsettled(order(4), None));
    sender.handle_window(at(1), A, 1);
    assert_eq!(drain(&mut sender), ["link 1 <- 1"]);
    submit_of(&mut sender, SHOES, 4).unwrap();
}

#[test]
fn room_goes_by_weight() {
    let mut sender = crowded(&[3, 1]);
    flood(&mut sender, 1..5);
    submit_of(&mut sender, TEA, 6).unwrap();
    assert_eq!(submit_of(&mut sender, TEA, 7), Err(Rejected::Full));
    assert_eq!(submit_of(&mut sender, SHOES, 8), Err(Rejected::Full), "both have their shares");
    assert_eq!(drain(&mut sender), ["4 pushed out"]);
}

/// Fills the queue with requests of one brand that may have been committed.
fn fill_with_doubtful(sender: &mut Sender) {
    sender.handle_window(at(0), A, 4);
    flood(sender, 1..5);
    drain(sender);
    sender.handle_link_down(at(1), A);
    sender.handle_link_up(at(1), B, 1, 0);
    assert_eq!(sender.queued(RequestClass::Write), 4);
}

#[test]
fn a_request_that_may_have_been_committed_is_never_pushed_out() {
    let mut sender = crowded(&[1, 1]);
    fill_with_doubtful(&mut sender);
    assert_eq!(submit_of(&mut sender, SHOES, 5), Err(Rejected::Full));
    for number in [6, 7] {
        submit_of(&mut sender, TEA, number).unwrap();
    }
    assert_eq!(submit_of(&mut sender, TEA, 8), Err(Rejected::Full), "it has its share");
    assert!(drain(&mut sender).is_empty());
    assert_eq!(sender.queued(RequestClass::Write), 6);
}

#[test]
fn what_is_above_the_limit_has_a_number() {
    let mut sender = crowded(&[1, 1]);
    sender.handle_window(at(0), A, 4);
    sender.handle_keys(at(0), A, vec![KEY]);
    for number in 1..5 {
        let (_, mut kind) = place(number, b"s");
        if let to_idc::Kind::Place(envelope) = &mut kind {
            envelope.key_id = Bytes::copy_from_slice(&KEY.0);
        }
        sender.submit(at(0), SHOES, order(number), kind, BODY).unwrap();
    }
    sender.handle_link_down(at(1), A);
    // This link takes only what is not sealed, so the queue stays full. Another brand's requests
    // leave it at once, but they count until they are settled.
    sender.handle_link_up(at(1), B, 1, 100);
    let taken = (10..50).take_while(|number| submit_of(&mut sender, TEA, *number).is_ok()).count();
    assert_eq!((taken, sender.queued(RequestClass::Write)), (4 + 2, 4), "the limit, and one for each brand");
    sender.handle_answer(at(2), B, settled(RequestId(5)));
    submit_of(&mut sender, TEA, 50).unwrap();
    assert_eq!(submit_of(&mut sender, TEA, 51), Err(Rejected::Full));
    // While the queue has room, what is above the limit needs none of it.
    sender.handle_link_up(at(3), A, 1, 100);
    sender.handle_keys(at(3), A, vec![KEY]);
    (60..100).for_each(|number| assert!(submit_of(&mut sender, TEA, number).is_ok()));
}

#[test]
fn a_cancellation_behind_its_order_counts_for_its_brand() {
    let mut sender = Sender::with_weights(SenderLimits { queue_max: 2, ..limits() }, &[1, 1, 1]);
    sender.handle_link_up(at(0), A, 1, 2);
    let (placed, kind) = place(1, b"s");
    sender.handle_keys(at(0), A, Vec::new());
    sender.submit(at(0), SHOES, placed, kind, BODY).unwrap();
    let cancellation = submit_of(&mut sender, SHOES, 0).unwrap();
    sender.handle_answer(at(1), A, refused(cancellation, Refusal::NotFound));
    sender.handle_window(at(1), A, 0);
    submit_of(&mut sender, SHOES, 2).unwrap();
    drain(&mut sender);
    // The newest request of the flood leaves. The cancellation that waits for its order stays.
    submit_of(&mut sender, TEA, 3).unwrap();
    assert_eq!(drain(&mut sender), ["3 pushed out"]);
    // Now each has one, and none may leave. A third brand is let in above the limit.
    submit_of(&mut sender, HATS, 4).unwrap();
    assert!(drain(&mut sender).is_empty());
    assert_eq!(submit_of(&mut sender, HATS, 5), Err(Rejected::Full), "one is its share");
    assert_eq!(sender.queued(RequestClass::Write), 3);
}

#[test]
fn the_shell_hears_how_many_wait_of_which_brand() {
    let mut sender = crowded(&[1, 1]);
    let waiting = |sender: &mut Sender| {
        let mut waiting: Vec<_> = std::iter::from_fn(|| sender.poll_waiting(RequestClass::Write)).collect();
        waiting.sort_unstable();
        waiting
    };
    waiting(&mut sender);
    flood(&mut sender, 1..4);
    assert_eq!(waiting(&mut sender), [(SHOES, 3)]);
    assert!(sender.has_room(RequestClass::Write, SHOES));
    flood(&mut sender, 4..5);
    assert!(sender.has_room(RequestClass::Write, TEA) && !sender.has_room(RequestClass::Write, SHOES));
    submit_of(&mut sender, TEA, 6).unwrap();
    assert_eq!(waiting(&mut sender), [(SHOES, 3), (TEA, 1)]);
    sender.handle_window(at(1), A, 8);
    assert_eq!(waiting(&mut sender), [(SHOES, 0), (TEA, 0)]);
}
