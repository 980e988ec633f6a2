//! Tests of the sender, one input at a time.

/// Several brands.
mod brands;

/// The time that callers still wait.
mod deadlines;

/// Limits that agents grant, and agents that take no orders.
mod grants;

/// Sealing keys and the agents that have them.
mod keys;

/// Questions beside writes.
mod questions;

/// The windows of links.
mod windows;

use bytes::Bytes;

use super::*;
use crate::dice::Dice;
use crate::domain::{PaymentId, UnixMicros};
use crate::wire::order::{Ask, Cancel, Envelope, Settled};
use crate::wire::payment::{AskPayment, Pay};

const A: LinkId = LinkId(1);
const B: LinkId = LinkId(2);

/// Brand of the requests in these tests, if a test names no other.
const BRAND: BrandIndex = BrandIndex(0);

/// Mark of every request in these tests.
const BODY: BodyMark = BodyMark(1);

fn limits() -> SenderLimits {
    SenderLimits {
        queue_max: 2,
        questions_max: 2,
        settling_max: 2,
        answer_within: Duration::from_secs(10),
        settle_for: Duration::from_secs(60),
        resend_after: Duration::from_secs(4),
    }
}

fn order(number: u8) -> OrderId {
    OrderId::new(UnixMicros::new(1), [number; 10])
}

fn cancel(number: u8) -> (OrderId, to_idc::Kind) {
    let (id, key) = (order(number), Bytes::copy_from_slice(&[number; 32]));
    let cancel = Cancel { brand: "b".into(), order: Bytes::copy_from_slice(id.as_bytes()), key };
    (id, to_idc::Kind::Cancel(cancel))
}

fn place(number: u8, session: &'static [u8]) -> (OrderId, to_idc::Kind) {
    let envelope = Envelope {
        key: Bytes::copy_from_slice(&[number; 32]),
        session: Bytes::from_static(session),
        encapsulation: Bytes::from_static(b"encapsulation"),
        ..Envelope::default()
    };
    (order(0), to_idc::Kind::Place(envelope))
}

fn ask(number: u8) -> (OrderId, to_idc::Kind) {
    (order(number), to_idc::Kind::Ask(Ask::default()))
}

fn pay(number: u8) -> (OrderId, to_idc::Kind) {
    let (id, key) = (order(number), Bytes::copy_from_slice(&[number; 32]));
    let pay = Pay { order: Bytes::copy_from_slice(id.as_bytes()), key, ..Pay::default() };
    (id, to_idc::Kind::Pay(pay))
}

fn at(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn submit(sender: &mut Sender, now: Duration, (order, kind): (OrderId, to_idc::Kind)) -> RequestId {
    sender.submit(now, BRAND, order, kind, BODY).unwrap()
}

fn connected(window: u32) -> Sender {
    let mut sender = Sender::new(limits());
    sender.handle_link_up(at(0), A, 1, window);
    sender
}

fn settled(request: RequestId) -> ToCloud {
    ToCloud { request: request.0, kind: Some(to_cloud::Kind::Settled(Settled::default())) }
}

fn refused(request: RequestId, refusal: Refusal) -> ToCloud {
    let refused = Refused::from(refusal);
    ToCloud { request: request.0, kind: Some(to_cloud::Kind::Refused(refused)) }
}

/// Drains the outputs: `link 1 <- 2` is request 2 on link 1, and `1 Unknown` is an answer.
fn drain(sender: &mut Sender) -> Vec<String> {
    std::iter::from_fn(|| sender.poll_output())
        .map(|output| match output {
            Output::Transmit { link, message, .. } => format!("link {} <- {}", link.0, message.request),
            Output::Answer { request, answer: CallerAnswer::Settled(_) } => format!("{} settled", request.0),
            Output::Answer { request, answer } => format!("{} {answer:?}", request.0),
            Output::PushedOut { request } => format!("{} pushed out", request.0),
            Output::SealAgain { request } => format!("{} is to be sealed again", request.0),
        })
        .collect()
}

#[test]
fn a_request_is_sent_answered_and_forgotten() {
    let mut sender = connected(8);
    let id = submit(&mut sender, at(0), cancel(1));
    assert_eq!(drain(&mut sender), ["link 1 <- 1"]);
    sender.handle_answer(at(1), A, settled(id));
    sender.handle_answer(at(1), A, settled(id));
    assert_eq!(drain(&mut sender), ["1 settled"], "a second answer has no effect");
    assert_eq!((sender.unsettled(), sender.next_timeout()), (0, None));
}

#[test]
fn what_a_dead_link_carried_goes_out_again_on_another() {
    let mut sender = connected(8);
    sender.handle_link_up(at(0), B, 1, 8);
    let ids = [1, 2].map(|n| submit(&mut sender, at(0), cancel(n)));
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "link 2 <- 2"]);
    sender.handle_link_down(at(1), A);
    assert_eq!(drain(&mut sender), ["link 2 <- 1"]);
    sender.handle_answer(at(2), A, settled(ids[0]));
    assert!(drain(&mut sender).is_empty(), "a dead link answers nothing");
    sender.handle_answer(at(2), B, settled(ids[0]));
    assert_eq!(drain(&mut sender), ["1 settled"]);
}

#[test]
fn a_timed_out_caller_hears_unknown_if_sent_and_not_sent_otherwise() {
    let mut sender = connected(1);
    for n in [1, 2] {
        submit(&mut sender, at(0), cancel(n));
    }
    sender.handle_timeout(at(10));
    let outputs = drain(&mut sender);
    assert!(outputs.contains(&"1 Unknown".into()) && outputs.contains(&"2 NotSent".into()), "{outputs:?}");
    assert_eq!(sender.unsettled(), 1, "the unknown request is still being settled");
}

#[test]
fn an_unknown_request_is_settled_later_and_given_up_in_the_end() {
    let mut sender = connected(8);
    let ids = [1, 2].map(|n| submit(&mut sender, at(0), cancel(n)));
    sender.handle_timeout(at(10));
    drain(&mut sender);
    sender.handle_answer(at(20), A, settled(ids[0]));
    assert_eq!(drain(&mut sender), ["1 settled"]);
    sender.handle_timeout(at(70));
    assert_eq!((sender.unsettled(), sender.next_timeout()), (0, None));
}

#[test]
fn a_request_without_an_answer_is_sent_again_with_growing_pauses() {
    let mut sender = connected(8);
    submit(&mut sender, at(0), cancel(1));
    assert_eq!(drain(&mut sender).len(), 1);
    let mut sent_at = Vec::new();
    while let Some(next) = sender.next_timeout() {
        sender.handle_timeout(next);
        sent_at.extend(drain(&mut sender).iter().filter(|o| o.starts_with("link")).map(|_| next.as_secs()));
    }
    assert_eq!(sent_at, [4, 12, 28, 60]);
}

#[test]
fn a_refusal_is_final_only_if_the_request_was_sent_once() {
    let mut sender = connected(8);
    let id = submit(&mut sender, at(0), cancel(1));
    sender.handle_answer(at(1), A, refused(id, Refusal::Busy));
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "1 Refused(Busy)"]);

    let id = submit(&mut sender, at(1), cancel(2));
    sender.handle_link_down(at(2), A);
    sender.handle_link_up(at(2), B, 1, 8);
    sender.handle_answer(at(3), B, refused(id, Refusal::Busy));
    assert_eq!(drain(&mut sender), ["link 1 <- 2", "link 2 <- 2"], "the first copy may have been committed");
    sender.handle_timeout(at(11));
    assert!(drain(&mut sender).contains(&"2 Unknown".to_owned()));
}

#[test]
fn a_key_in_progress_is_rejected_unless_its_caller_has_gone() {
    let mut sender = connected(8);
    submit(&mut sender, at(0), cancel(1));
    let (order, kind) = cancel(1);
    assert_eq!(sender.submit(at(1), BRAND, order, kind.clone(), BODY), Err(Rejected::InProgress));
    sender.handle_timeout(at(10));
    let second = sender.submit(at(11), BRAND, order, kind, BODY).unwrap();
    sender.handle_answer(at(12), A, settled(second));
    assert_eq!(sender.unsettled(), 0);
}

#[test]
fn another_body_under_an_unsettled_key_is_rejected_as_such() {
    let mut sender = connected(8);
    let first = submit(&mut sender, at(0), cancel(1));
    let (order, kind) = cancel(1);
    let another = |sender: &mut Sender, now| sender.submit(now, BRAND, order, kind.clone(), BodyMark(2));
    assert_eq!(another(&mut sender, at(1)), Err(Rejected::KeyReused));
    sender.handle_timeout(at(10));
    assert_eq!(
        another(&mut sender, at(11)),
        Err(Rejected::KeyReused),
        "the request goes on after its caller has gone"
    );
    sender.handle_answer(at(12), A, settled(first));
    assert!(another(&mut sender, at(13)).is_ok(), "from now on only the ledger decides");
}

#[test]
fn a_full_queue_rejects() {
    let mut sender = Sender::new(limits());
    for n in [1, 2] {
        submit(&mut sender, at(0), cancel(n));
    }
    let (order, kind) = cancel(3);
    assert_eq!(sender.submit(at(0), BRAND, order, kind, BODY), Err(Rejected::Full));
}

#[test]
fn a_key_of_another_request_is_final_whatever_the_lost_copies() {
    let mut sender = connected(8);
    sender.handle_link_up(at(0), B, 1, 8);
    let id = submit(&mut sender, at(0), cancel(1));
    sender.handle_link_down(at(1), A);
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "link 2 <- 1"]);
    sender.handle_answer(at(2), B, refused(id, Refusal::KeyReused));
    assert_eq!(drain(&mut sender), ["1 Refused(KeyReused)"]);
}

#[test]
fn a_refusal_for_another_payment_names_it_where_the_data_centre_does() {
    let mut sender = connected(8);
    let payment = PaymentId::new(UnixMicros::new(1), [7; 10]);
    let named = |refusal| Refused::for_payment(refusal, payment);
    let garbled = Refused { payment: Bytes::from_static(b"?"), ..Refusal::AlreadyPaid.into() };
    for (refused, expected) in [
        (named(Refusal::AlreadyPaid), CallerAnswer::InTheWay(Refusal::AlreadyPaid, payment)),
        (named(Refusal::PaymentInProgress), CallerAnswer::InTheWay(Refusal::PaymentInProgress, payment)),
        (Refusal::AlreadyPaid.into(), CallerAnswer::Refused(Refusal::AlreadyPaid)),
        (garbled, CallerAnswer::Refused(Refusal::AlreadyPaid)),
        (named(Refusal::WrongAmount), CallerAnswer::Refused(Refusal::WrongAmount)),
    ] {
        let id = submit(&mut sender, at(0), cancel(1));
        drain(&mut sender);
        let message = ToCloud { request: id.0, kind: Some(to_cloud::Kind::Refused(refused)) };
        sender.handle_answer(at(1), A, message);
        assert_eq!(sender.poll_output(), Some(Output::Answer { request: id, answer: expected }));
    }
}

#[test]
fn a_silent_link_takes_no_new_requests_until_it_is_heard() {
    let mut sender = connected(8);
    sender.handle_link_open(at(0), A, false);
    submit(&mut sender, at(0), cancel(1));
    assert!(drain(&mut sender).is_empty() && !sender.has_open_link());
    sender.handle_link_open(at(1), A, true);
    assert_eq!((drain(&mut sender), sender.has_open_link()), (vec!["link 1 <- 1".to_owned()], true));
}

#[test]
fn frames_on_a_lane_are_numbered_from_one_in_order() {
    let mut sender = Sender::new(limits());
    for link in [A, B] {
        sender.handle_link_up(at(0), link, 2, 2);
    }
    for n in 1..=4 {
        submit(&mut sender, at(0), cancel(n));
    }
    sender.handle_window(at(1), A, 8);
    for n in 5..=6 {
        submit(&mut sender, at(1), cancel(n));
    }
    let mut sent = BTreeMap::<_, Vec<u64>>::new();
    while let Some(Output::Transmit { link, lane, message }) = sender.poll_output() {
        sent.entry((link, lane)).or_default().push(message.sequence);
    }
    let lanes = [((A, 0), vec![1]), ((A, 1), vec![1, 2, 3]), ((B, 0), vec![1, 2])];
    assert_eq!(sent, BTreeMap::from(lanes));
}

#[test]
fn an_encapsulation_travels_once_a_lane_and_again_when_the_idc_asks() {
    let mut sender = connected(8);
    let carried = |sender: &mut Sender| match sender.poll_output() {
        Some(Output::Transmit { message: ToIdc { kind: Some(to_idc::Kind::Place(e)), .. }, .. }) => {
            !e.encapsulation.is_empty()
        }
        other => panic!("nothing placed: {other:?}"),
    };
    submit(&mut sender, at(0), place(1, b"s"));
    let id = submit(&mut sender, at(0), place(2, b"s"));
    assert!(carried(&mut sender) && !carried(&mut sender));
    sender.handle_answer(at(1), A, refused(id, Refusal::SessionUnknown));
    assert!(carried(&mut sender), "the request is sent after it was asked for");
}

#[test]
fn the_settling_are_bounded_and_the_oldest_goes_first() {
    let mut sender = connected(8);
    for n in [1, 2, 3] {
        submit(&mut sender, at(0), cancel(n));
    }
    sender.handle_timeout(at(10));
    assert_eq!(sender.unsettled(), 2);
    assert!(!sender.is_unsettled(order(1), None) && sender.is_unsettled(order(3), None));
}

#[test]
fn an_order_that_is_still_being_settled_is_pending_and_not_missing() {
    let mut sender = connected(24);
    submit(&mut sender, at(0), cancel(1));
    let early = submit(&mut sender, at(1), ask(1));
    let missing = submit(&mut sender, at(1), ask(2));
    let payment = submit(&mut sender, at(1), (order(1), to_idc::Kind::AskPayment(AskPayment::default())));
    drain(&mut sender);
    for id in [early, missing, payment] {
        sender.handle_answer(at(2), A, refused(id, Refusal::NotFound));
    }
    assert_eq!(drain(&mut sender), ["2 Pending", "3 Refused(NotFound)", "4 Pending"]);
}

#[test]
fn a_question_is_not_settled_after_its_caller_has_gone() {
    let mut sender = connected(8);
    submit(&mut sender, at(0), ask(1));
    sender.handle_timeout(at(10));
    assert_eq!(sender.unsettled(), 0);
}

#[test]
fn a_question_waits_for_a_link_for_a_second_and_no_longer() {
    let mut sender = connected(10);
    sender.handle_link_down(at(10), A);
    submit(&mut sender, at(10), ask(1));
    let write = submit(&mut sender, at(10), cancel(2));
    assert_eq!((drain(&mut sender), sender.next_timeout()), (Vec::new(), Some(at(11))));
    // A link that returns in time takes the request.
    sender.handle_link_up(at(10), B, 1, 10);
    assert_eq!(drain(&mut sender), ["link 2 <- 2", "link 2 <- 1"]);
    sender.handle_timeout(at(11));
    assert_eq!(drain(&mut sender), Vec::<String>::new());
    // A question that was on a link waits for the next link no longer than any other question. A
    // write waits as long as usual.
    sender.handle_link_down(at(12), B);
    assert_eq!(sender.next_timeout(), Some(at(13)));
    sender.handle_timeout(at(13));
    assert_eq!(drain(&mut sender), ["1 NotSent"]);
    // After so long without a link, a new question does not wait at all.
    let late = submit(&mut sender, at(14), ask(3));
    assert_eq!(drain(&mut sender), [format!("{} NotSent", late.0)]);
    assert_eq!(sender.unsettled(), 1);
    sender.handle_link_up(at(15), A, 1, 10);
    assert_eq!(drain(&mut sender), [format!("link 1 <- {}", write.0)]);
    // A silent link may be heard again, so it takes the question.
    sender.handle_link_open(at(16), A, false);
    let silent = submit(&mut sender, at(18), ask(4));
    sender.handle_timeout(at(20));
    assert_eq!(drain(&mut sender), ["2 Unknown"]);
    sender.handle_link_open(at(20), A, true);
    assert_eq!(drain(&mut sender), [format!("link 1 <- {}", silent.0)]);
}

#[test]
fn a_question_without_link_about_an_unknown_order_is_pending() {
    let mut sender = connected(10);
    submit(&mut sender, at(0), cancel(1));
    sender.handle_link_down(at(1), A);
    drain(&mut sender);
    submit(&mut sender, at(5), ask(1));
    assert_eq!(drain(&mut sender), ["2 Pending"]);
}

#[test]
fn a_write_that_takes_over_a_sent_one_is_unsettled_too() {
    for (number, link_again) in [(1, true), (2, false)] {
        let mut sender = connected(8);
        submit(&mut sender, at(0), cancel(number));
        sender.handle_timeout(at(10));
        sender.handle_link_down(at(11), A);
        if link_again {
            sender.handle_link_up(at(11), B, 1, 8);
        }
        drain(&mut sender);
        let second = submit(&mut sender, at(12), cancel(number));
        sender.handle_answer(at(13), B, refused(second, Refusal::Busy));
        sender.handle_timeout(at(22));
        let outputs = drain(&mut sender);
        assert!(outputs.contains(&"2 Unknown".to_owned()), "the first may have been committed: {outputs:?}");
        assert!(sender.is_unsettled(order(number), None));
    }
}

#[test]
fn a_write_without_room_leaves_the_previous_one_to_be_settled() {
    let mut sender = connected(8);
    submit(&mut sender, at(0), cancel(1));
    sender.handle_timeout(at(10));
    sender.handle_link_open(at(11), A, false);
    for n in [2, 3] {
        submit(&mut sender, at(11), cancel(n));
    }
    let (id, kind) = cancel(1);
    assert_eq!(sender.submit(at(12), BRAND, id, kind, BODY), Err(Rejected::Full));
    assert!(sender.is_unsettled(id, None));
}

#[test]
fn a_question_answered_before_a_write_and_heard_after_is_pending() {
    let mut sender = connected(8);
    let write = submit(&mut sender, at(0), cancel(1));
    let question = submit(&mut sender, at(1), ask(1));
    drain(&mut sender);
    sender.handle_answer(at(2), A, settled(write));
    sender.handle_answer(at(2), A, refused(question, Refusal::NotFound));
    assert_eq!(drain(&mut sender), ["1 settled", "2 Pending"]);
}

#[test]
fn an_order_is_missing_only_once_no_agent_knows_it() {
    for request in [cancel(1), ask(1), pay(1)] {
        let mut sender = connected(8);
        sender.handle_link_up(at(0), B, 1, 8);
        sender.handle_link_up(at(0), LinkId(3), 1, 8);
        sender.handle_link_open(at(0), LinkId(3), false);
        let id = submit(&mut sender, at(0), request);
        sender.handle_answer(at(1), A, refused(id, Refusal::NotFound));
        sender.handle_answer(at(1), A, refused(id, Refusal::NotFound));
        assert_eq!(
            drain(&mut sender),
            ["link 1 <- 1", "link 2 <- 1"],
            "another agent may have the order under way"
        );
        sender.handle_answer(at(2), B, refused(id, Refusal::NotFound));
        assert_eq!(
            drain(&mut sender),
            ["1 Refused(NotFound)"],
            "the sender does not wait for a silent agent"
        );
        assert_eq!((sender.unsettled(), sender.next_timeout()), (0, None));
    }
}

#[test]
fn a_payment_is_not_told_missing_while_its_order_is_being_placed() {
    let mut sender = with_two_agents();
    let (order, kind) = pay(1);
    let id = sender.submit_while_placed(at(0), BRAND, order, kind, BODY).unwrap();
    for link in [A, B] {
        sender.handle_answer(at(1), link, refused(id, Refusal::NotFound));
    }
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "link 2 <- 1", "1 Refused(Busy)"]);
    assert_eq!((sender.unsettled(), sender.next_timeout()), (0, None));
}

#[test]
fn an_order_is_being_placed_until_its_placing_has_ended() {
    let mut sender = connected(8);
    assert!(!sender.is_placing(order(0)));
    let placing = submit(&mut sender, at(0), place(1, b"s"));
    submit(&mut sender, at(0), cancel(2));
    assert!(
        sender.is_placing(order(0)) && !sender.is_placing(order(2)),
        "an order that is being cancelled is not being placed"
    );
    sender.handle_answer(at(1), A, settled(placing));
    assert!(!sender.is_placing(order(0)));
}

/// Returns a sender with links to two agents.
fn with_two_agents() -> Sender {
    let mut sender = connected(8);
    sender.handle_link_up(at(0), B, 1, 8);
    sender
}

#[test]
fn what_an_agent_without_a_database_refuses_goes_to_another_one() {
    let mut sender = with_two_agents();
    let id = submit(&mut sender, at(0), cancel(1));
    sender.handle_answer(at(1), A, refused(id, Refusal::DatabaseDown));
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "link 2 <- 1"]);
    sender.handle_answer(at(1), B, settled(id));
    assert_eq!(drain(&mut sender), ["1 settled"]);

    // After the quick refusal that link has the least load, but the sender does not prefer it.
    let ids = [2, 3].map(|n| submit(&mut sender, at(1), cancel(n)));
    assert_eq!(drain(&mut sender), ["link 2 <- 2", "link 2 <- 3"]);
    ids.into_iter().for_each(|id| sender.handle_answer(at(1), B, settled(id)));
    drain(&mut sender);

    // After a moment the sender tries that link again. After an answer it is one of two equal
    // links.
    let id = submit(&mut sender, at(3), cancel(4));
    sender.handle_answer(at(3), A, settled(id));
    for n in [5, 6] {
        submit(&mut sender, at(3), cancel(n));
    }
    assert_eq!(drain(&mut sender), ["link 1 <- 4", "4 settled", "link 1 <- 5", "link 2 <- 6"]);
}

#[test]
fn a_repeated_refusal_says_nothing_of_another_agents_copy() {
    for refusal in [Refusal::DatabaseDown, Refusal::Busy, Refusal::Failed, Refusal::NotFound] {
        for write in [cancel(1), place(1, b"s")] {
            let mut sender = with_two_agents();
            let id = submit(&mut sender, at(0), write);
            sender.handle_answer(at(1), A, refused(id, Refusal::DatabaseDown));
            sender.handle_answer(at(1), A, refused(id, refusal));
            assert_eq!(drain(&mut sender), ["link 1 <- 1", "link 2 <- 1"], "{refusal:?}");
            sender.handle_answer(at(1), B, settled(id));
            assert_eq!(drain(&mut sender), ["1 settled"]);
        }
    }
}

#[test]
fn without_any_agent_that_can_commit_each_is_asked_once() {
    let mut sender = with_two_agents();
    let id = submit(&mut sender, at(0), cancel(1));
    sender.handle_answer(at(0), A, refused(id, Refusal::DatabaseDown));
    sender.handle_answer(at(0), B, refused(id, Refusal::DatabaseDown));
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "link 2 <- 1", "1 Refused(DatabaseDown)"]);
    let id = submit(&mut sender, at(0), cancel(2));
    sender.handle_answer(at(0), A, refused(id, Refusal::DatabaseDown));
    assert_eq!(
        drain(&mut sender),
        ["link 1 <- 2", "2 Refused(DatabaseDown)"],
        "the other agent refused a moment ago"
    );
}

#[test]
fn an_order_is_not_missing_while_an_agent_without_database_has_it() {
    let mut sender = with_two_agents();
    let id = submit(&mut sender, at(0), ask(1));
    sender.handle_answer(at(0), A, refused(id, Refusal::DatabaseDown));
    sender.handle_answer(at(0), B, refused(id, Refusal::NotFound));
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "link 2 <- 1", "1 Refused(DatabaseDown)"]);
}

#[test]
fn a_lost_copy_stays_in_doubt_whatever_agents_without_a_database_say() {
    let mut sender = with_two_agents();
    let id = submit(&mut sender, at(0), cancel(1));
    sender.handle_link_down(at(1), A);
    sender.handle_answer(at(1), B, refused(id, Refusal::DatabaseDown));
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "link 2 <- 1"]);
    sender.handle_timeout(at(10));
    assert!(drain(&mut sender).contains(&"1 Unknown".to_owned()));
}

#[test]
fn a_cancellation_that_no_agent_knows_waits_until_its_order_is_settled() {
    let mut sender = connected(8);
    sender.handle_link_up(at(0), B, 1, 8);
    let order = submit(&mut sender, at(0), place(1, b"s"));
    let cancellation = submit(&mut sender, at(1), cancel(0));
    sender.handle_answer(at(2), B, refused(cancellation, Refusal::NotFound));
    sender.handle_answer(at(2), A, refused(cancellation, Refusal::NotFound));
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "link 2 <- 2", "link 1 <- 2"], "no caller gets an answer");
    assert_eq!(
        sender.queued(RequestClass::Write),
        1,
        "a request that waits for its order's end counts in the queue"
    );
    // The request is sent again only after its order, not by a timer.
    sender.handle_timeout(at(3));
    assert_eq!(drain(&mut sender).len(), 0);
    sender.handle_answer(at(3), A, settled(order));
    assert_eq!(drain(&mut sender), ["1 settled", "link 1 <- 2"]);
    sender.handle_answer(at(4), A, settled(cancellation));
    assert_eq!(drain(&mut sender), ["2 settled"]);
    assert_eq!((sender.unsettled(), sender.next_timeout()), (0, None));
}

#[test]
fn a_cancellation_unknown_to_one_agent_goes_to_another_or_is_busy() {
    let mut sender = connected(8);
    for (link, window) in [(B, 0), (LinkId(3), 1)] {
        sender.handle_link_up(at(0), link, 1, window);
    }
    for (id, goes_on) in [(1, "link 3 <- 1"), (2, "2 Refused(Busy)")] {
        submit(&mut sender, at(0), cancel(id));
        assert_eq!(drain(&mut sender), [format!("link 1 <- {id}")]);
        sender.handle_answer(at(1), A, refused(RequestId(id.into()), Refusal::NotFound));
        assert_eq!(drain(&mut sender), [goes_on]);
    }
}

#[test]
fn a_cancellations_caller_hears_unknown_while_its_order_is_unsettled() {
    let mut sender = connected(8);
    submit(&mut sender, at(0), place(1, b"s"));
    sender.handle_timeout(at(10));
    let cancellation = submit(&mut sender, at(11), cancel(0));
    drain(&mut sender);
    sender.handle_answer(at(12), A, refused(cancellation, Refusal::NotFound));
    assert_eq!(drain(&mut sender).len(), 0);
    sender.handle_timeout(at(21));
    assert!(drain(&mut sender).contains(&"2 Unknown".to_owned()), "the unknown request goes on");
    // The order is given up. From now on only the agents' answers count.
    sender.handle_timeout(at(70));
    assert_eq!(drain(&mut sender), ["link 1 <- 2"]);
    sender.handle_answer(at(71), A, refused(cancellation, Refusal::NotFound));
    assert_eq!(drain(&mut sender), ["2 Refused(NotFound)"]);
}

#[test]
fn a_cancellation_answered_before_its_order_committed_is_sent_again() {
    let mut sender = connected(8);
    let order = submit(&mut sender, at(0), place(1, b"s"));
    let cancellation = submit(&mut sender, at(1), cancel(0));
    sender.handle_answer(at(2), A, settled(order));
    drain(&mut sender);
    sender.handle_answer(at(2), A, refused(cancellation, Refusal::NotFound));
    assert_eq!(drain(&mut sender), ["link 1 <- 2"]);
    sender.handle_answer(at(3), A, refused(cancellation, Refusal::NotFound));
    assert_eq!(drain(&mut sender), ["2 Refused(NotFound)"], "the refusal came after the order was given up");
}

#[test]
fn two_cancellations_of_unknown_orders_do_not_wait_for_each_other() {
    let mut sender = connected(8);
    let (order, kind) = cancel(1);
    let to_idc::Kind::Cancel(mut other) = kind.clone() else { unreachable!() };
    other.key = Bytes::copy_from_slice(&[9; 32]);
    let ids = [kind, to_idc::Kind::Cancel(other)].map(|kind| submit(&mut sender, at(0), (order, kind)));
    drain(&mut sender);
    for id in ids {
        sender.handle_answer(at(1), A, refused(id, Refusal::NotFound));
    }
    assert_eq!(drain(&mut sender), ["1 Refused(NotFound)", "2 Refused(NotFound)"]);
}

#[test]
fn what_has_settled_meanwhile_takes_no_room_from_what_is_being_settled() {
    let mut sender = connected(8);
    let ids = [1, 2, 3, 4].map(|n| submit(&mut sender, at(u64::from(n)), cancel(n)));
    sender.handle_timeout(at(12));
    sender.handle_answer(at(12), A, settled(ids[1]));
    sender.handle_timeout(at(13));
    sender.handle_answer(at(13), A, settled(ids[2]));
    sender.handle_timeout(at(14));
    assert!([1, 4].iter().all(|n| sender.is_unsettled(order(*n), None)));
}

#[test]
fn after_a_session_that_was_not_known_a_refusal_is_final() {
    for definite in [Refusal::Busy, Refusal::DatabaseDown, Refusal::EnvelopeRejected] {
        let mut sender = connected(8);
        submit(&mut sender, at(0), place(1, b"s"));
        let id = submit(&mut sender, at(0), place(2, b"s"));
        for _twice in 0..2 {
            sender.handle_answer(at(1), A, refused(id, Refusal::SessionUnknown));
        }
        assert_eq!(drain(&mut sender), ["link 1 <- 1", "link 1 <- 2", "link 1 <- 2"]);
        sender.handle_answer(at(2), A, refused(id, definite));
        assert_eq!(drain(&mut sender), [format!("2 Refused({definite:?})")]);
    }
}

#[test]
fn an_order_whose_only_copy_was_returned_unopened_had_no_effect() {
    let mut sender = connected(8);
    submit(&mut sender, at(0), place(1, b"s"));
    let id = submit(&mut sender, at(0), place(2, b"s"));
    sender.handle_window(at(1), A, 0);
    sender.handle_answer(at(1), A, refused(id, Refusal::SessionUnknown));
    sender.handle_timeout(at(10));
    assert!(drain(&mut sender).contains(&"2 NotSent".to_owned()));
}
