//! Tests that sealed orders go to agents that can open them, and are sealed again if no agent can.

use super::*;

const OLD: KeyId = KeyId([1; 8]);
const NEW: KeyId = KeyId([2; 8]);

/// Returns an order that is sealed to a key.
fn sealed(number: u8, key: KeyId) -> (OrderId, to_idc::Kind) {
    let (_, mut kind) = place(number, b"s");
    if let to_idc::Kind::Place(envelope) = &mut kind {
        envelope.key_id = Bytes::copy_from_slice(&key.0);
    }
    (order(number), kind)
}

/// Returns a sender with two links. Only the agent of link A has the new key as well.
fn rotated_on_one() -> Sender {
    let mut sender = connected(8);
    sender.handle_link_up(at(0), B, 1, 8);
    sender.handle_keys(at(0), A, vec![NEW, OLD]);
    sender.handle_keys(at(0), B, vec![OLD]);
    sender
}

fn unknown_key(request: RequestId, key: KeyId) -> ToCloud {
    let refused = Refused { key_id: Bytes::copy_from_slice(&key.0), ..Refusal::UnknownKey.into() };
    ToCloud { request: request.0, kind: Some(to_cloud::Kind::Refused(refused)) }
}

#[test]
fn a_sealed_order_goes_only_where_it_can_be_opened() {
    let mut sender = rotated_on_one();
    for n in [1, 2, 3] {
        submit(&mut sender, at(0), sealed(n, NEW));
    }
    submit(&mut sender, at(0), sealed(4, OLD));
    submit(&mut sender, at(0), cancel(5));
    let sent = drain(&mut sender);
    assert_eq!(sent, ["link 1 <- 1", "link 1 <- 2", "link 1 <- 3", "link 2 <- 4", "link 2 <- 5"]);
}

#[test]
fn what_waits_for_the_one_link_that_opens_it_keeps_nothing_back() {
    let mut sender = rotated_on_one();
    sender.handle_window(at(0), A, 0);
    submit(&mut sender, at(0), sealed(1, NEW));
    submit(&mut sender, at(0), sealed(2, OLD));
    assert_eq!(drain(&mut sender), ["link 2 <- 2"]);
    sender.handle_window(at(1), A, 8);
    assert_eq!(drain(&mut sender), ["link 1 <- 1"]);
}

#[test]
fn an_order_that_no_link_opens_is_resealed_its_copy_in_doubt() {
    let mut sender = rotated_on_one();
    let id = submit(&mut sender, at(0), sealed(1, NEW));
    sender.handle_link_down(at(1), A);
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "1 is to be sealed again"]);
    sender.handle_sealed(at(1), id, Some(sealed(1, OLD).1));
    assert_eq!(drain(&mut sender), ["link 2 <- 1"]);
    sender.handle_answer(at(2), B, refused(id, Refusal::Busy));
    assert!(drain(&mut sender).is_empty(), "the first copy may have been committed");
    sender.handle_answer(at(2), B, settled(id));
    assert_eq!(drain(&mut sender), ["1 settled"]);
    assert_eq!((sender.unsettled(), sender.next_timeout()), (0, None));
}

#[test]
fn whoever_looks_at_the_keys_sees_that_they_have_changed() {
    let mut sender = connected(8);
    let mut seen = BTreeSet::from([sender.keys_version()]);
    let mut is_news = |sender: &Sender| seen.insert(sender.keys_version());
    sender.handle_keys(at(0), A, vec![OLD]);
    assert!(is_news(&sender));
    sender.handle_link_open(at(1), A, false);
    assert!(is_news(&sender));
    sender.handle_link_open(at(2), A, true);
    assert!(is_news(&sender));
    sender.handle_link_down(at(3), A);
    assert!(is_news(&sender));
    sender.handle_link_up(at(4), A, 1, 8);
    assert!(is_news(&sender) && !is_news(&sender));
}

#[test]
fn an_unsent_order_is_resealed_when_its_key_is_retired() {
    let mut sender = rotated_on_one();
    sender.handle_window(at(0), A, 0);
    let id = submit(&mut sender, at(0), sealed(1, NEW));
    sender.handle_keys(at(1), A, vec![OLD]);
    assert_eq!(drain(&mut sender), ["1 is to be sealed again"]);
    sender.handle_sealed(at(1), id, None);
    assert_eq!(drain(&mut sender), ["1 NotSent"], "the order cannot be sealed again and was never sent");
}

#[test]
fn a_key_that_an_agent_lacks_is_not_sent_to_it_again() {
    let mut sender = rotated_on_one();
    sender.handle_keys(at(0), B, vec![NEW]);
    let ids = [1, 2].map(|n| submit(&mut sender, at(0), sealed(n, NEW)));
    drain(&mut sender);
    sender.handle_answer(at(1), A, unknown_key(ids[0], NEW));
    assert_eq!(drain(&mut sender), ["link 2 <- 1"], "the order goes to the other agent that has the key");
    assert_eq!(sender.opened().collect::<Vec<_>>(), [(A, &[OLD][..]), (B, &[NEW][..])]);
    sender.handle_answer(at(1), A, unknown_key(ids[0], NEW));
    assert!(drain(&mut sender).is_empty(), "a repeated refusal of a copy has no effect");
    sender.handle_answer(at(1), B, unknown_key(ids[0], NEW));
    assert_eq!(drain(&mut sender), ["1 is to be sealed again"]);
    sender.handle_sealed(at(1), ids[0], Some(sealed(1, OLD).1));
    sender.handle_answer(at(2), A, refused(ids[0], Refusal::Busy));
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "1 Refused(Busy)"], "every copy was refused");
}

#[test]
fn an_answer_during_resealing_is_told_when_the_order_returns() {
    let mut sender = rotated_on_one();
    let id = submit(&mut sender, at(0), sealed(1, NEW));
    sender.handle_link_open(at(3), A, false);
    sender.handle_timeout(at(4));
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "1 is to be sealed again"]);
    sender.handle_answer(at(5), A, settled(id));
    assert!(drain(&mut sender).is_empty(), "an order without a caller is to be sealed");
    sender.handle_sealed(at(6), id, Some(sealed(1, OLD).1));
    assert_eq!(drain(&mut sender), ["1 settled"]);
    assert_eq!((sender.unsettled(), sender.next_timeout()), (0, None));
}

#[test]
fn an_order_that_is_sealed_again_keeps_its_room_in_the_queue() {
    let mut sender = rotated_on_one();
    sender.handle_window(at(0), A, 0);
    sender.handle_window(at(0), B, 0);
    let ids = [1, 2].map(|n| submit(&mut sender, at(0), sealed(n, NEW)));
    sender.handle_keys(at(1), A, vec![OLD]);
    assert_eq!(drain(&mut sender), ["1 is to be sealed again", "2 is to be sealed again"]);
    let (order, kind) = sealed(3, OLD);
    assert_eq!(
        sender.submit(at(1), BRAND, order, kind, BODY),
        Err(Rejected::Full),
        "both orders come back to the queue"
    );
    sender.handle_sealed(at(2), ids[0], Some(sealed(1, OLD).1));
    assert_eq!(
        sender.queued(RequestClass::Write),
        limits().queue_max,
        "the queue counts the order that is away"
    );
    sender.handle_sealed(at(2), ids[1], None);
    assert_eq!((drain(&mut sender), sender.queued(RequestClass::Write)), (vec!["2 NotSent".to_owned()], 1));
}

#[test]
fn an_order_whose_caller_never_comes_back_from_sealing_is_given_up() {
    let mut sender = rotated_on_one();
    let id = submit(&mut sender, at(0), sealed(1, NEW));
    sender.handle_link_down(at(1), A);
    drain(&mut sender);
    sender.handle_timeout(at(10));
    assert!(drain(&mut sender).is_empty(), "a caller that seals gets an answer meanwhile");
    while let Some(next) = sender.next_timeout() {
        sender.handle_timeout(next);
    }
    assert_eq!((sender.unsettled(), sender.queued(RequestClass::Write)), (0, 0));
    drain(&mut sender);
    sender.handle_sealed(at(80), id, Some(sealed(1, OLD).1));
    assert_eq!(drain(&mut sender), ["1 Unknown"]);
}

#[test]
fn a_caller_back_from_sealing_too_late_is_told_once() {
    let mut sender = rotated_on_one();
    let id = submit(&mut sender, at(0), sealed(1, NEW));
    sender.handle_link_down(at(1), A);
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "1 is to be sealed again"]);
    sender.handle_timeout(at(80));
    assert!(drain(&mut sender).is_empty(), "an order that was given up has an answer");
    assert_eq!((sender.unsettled(), sender.next_timeout()), (0, None));
    sender.handle_sealed(at(81), id, Some(sealed(1, OLD).1));
    assert_eq!(drain(&mut sender), ["1 Unknown"]);
}

#[test]
fn an_order_that_no_link_opens_takes_no_others_room() {
    let mut sender = rotated_on_one();
    for n in 1..=2 {
        submit(&mut sender, at(0), sealed(n, NEW));
    }
    // The orders' callers have gone. With link A, the only link that can open the orders ends too.
    sender.handle_timeout(at(10));
    sender.handle_link_down(at(11), A);
    drain(&mut sender);
    assert_eq!(
        (sender.queued(RequestClass::Write), sender.unsettled()),
        (0, 2),
        "the queue has room for {}",
        limits().queue_max
    );
    submit(&mut sender, at(11), sealed(3, OLD));
    assert_eq!(drain(&mut sender), ["link 2 <- 3"]);
}

#[test]
fn without_another_key_to_seal_to_an_order_waits_for_its_link() {
    let mut sender = connected(8);
    sender.handle_keys(at(0), A, vec![OLD]);
    sender.handle_link_open(at(0), A, false);
    submit(&mut sender, at(0), sealed(1, OLD));
    assert!(drain(&mut sender).is_empty());
    sender.handle_link_open(at(1), A, true);
    assert_eq!(drain(&mut sender), ["link 1 <- 1"]);
}
