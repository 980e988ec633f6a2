//! Tests of questions beside writes. A crowd that asks takes neither the queue nor the window of
//! writes.

use super::*;

const SHOES: BrandIndex = BrandIndex(0);
const TEA: BrandIndex = BrandIndex(1);

fn submit_of(
    sender: &mut Sender,
    brand: BrandIndex,
    (order, kind): (OrderId, to_idc::Kind),
) -> Result<RequestId, Rejected> {
    sender.submit(at(0), brand, order, kind, BODY)
}

/// Asks about this many orders and returns the number of questions that were taken.
fn ask_many(sender: &mut Sender, brand: BrandIndex, count: u8) -> usize {
    (0..count).filter(|number| submit_of(sender, brand, ask(*number)).is_ok()).count()
}

fn missing(sender: &mut Sender, link: LinkId, id: RequestId) {
    sender.handle_answer(at(1), link, refused(id, Refusal::NotFound));
}

#[test]
fn a_crowd_that_asks_leaves_window_and_queue_to_writes() {
    let mut sender = connected(16);
    assert_eq!(ask_many(&mut sender, BRAND, 10), 4, "an eighth of the window, and their own queue");
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "link 1 <- 2"]);
    for number in 1..17 {
        submit_of(&mut sender, BRAND, cancel(number)).unwrap();
    }
    assert_eq!(drain(&mut sender).len(), 14, "the rest of the window");
    assert_eq!(submit_of(&mut sender, BRAND, cancel(17)), Err(Rejected::Full));
    assert_eq!(RequestClass::ALL.map(|class| sender.queued(class)), [2, 2]);
    assert!(RequestClass::ALL.iter().all(|class| !sender.has_room(*class, BRAND)));
}

#[test]
fn a_write_takes_the_place_of_an_answered_question() {
    let mut sender = connected(4);
    assert_eq!(ask_many(&mut sender, BRAND, 3), 3);
    for number in 1..5 {
        submit_of(&mut sender, BRAND, cancel(number)).unwrap();
    }
    drain(&mut sender);
    missing(&mut sender, A, RequestId(1));
    assert_eq!(drain(&mut sender), ["1 Refused(NotFound)", "link 1 <- 7"]);
    sender.handle_answer(at(1), A, settled(RequestId(4)));
    assert_eq!(drain(&mut sender), ["4 settled", "link 1 <- 2"], "no write waits any more");
}

#[test]
fn the_smallest_window_takes_a_question_and_then_a_write() {
    let mut sender = connected(1);
    for request in [ask(1), ask(2), cancel(3)] {
        submit_of(&mut sender, BRAND, request).unwrap();
    }
    missing(&mut sender, A, RequestId(1));
    sender.handle_answer(at(1), A, settled(RequestId(3)));
    assert_eq!(
        drain(&mut sender),
        ["link 1 <- 1", "1 Refused(NotFound)", "link 1 <- 3", "3 settled", "link 1 <- 2"]
    );
}

#[test]
fn questions_that_went_elsewhere_leave_their_place() {
    let mut sender = connected(16);
    sender.handle_link_up(at(0), B, 1, 16);
    for _round in 0..20 {
        let id = submit(&mut sender, at(0), ask(1));
        for link in [A, B] {
            missing(&mut sender, link, id);
        }
    }
    assert_eq!(sender.unsettled(), 0);
    drain(&mut sender);
    // Each link takes as many as at first.
    assert_eq!(ask_many(&mut sender, BRAND, 20), 6);
    assert_eq!(drain(&mut sender).len(), 4);
}

#[test]
fn one_brands_crowd_leaves_room_for_another_brands_questions() {
    let mut sender = Sender::with_weights(SenderLimits { questions_max: 4, ..limits() }, &[1, 1]);
    sender.handle_link_up(at(0), A, 1, 0);
    assert_eq!(ask_many(&mut sender, SHOES, 10), 4);
    assert_eq!(ask_many(&mut sender, TEA, 10), 2);
    assert_eq!(drain(&mut sender), ["4 pushed out", "3 pushed out"]);
    sender.handle_window(at(0), A, 32);
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "link 1 <- 5", "link 1 <- 2", "link 1 <- 6"]);
}

#[test]
fn a_crowd_that_asks_about_unsettled_orders_leaves_room_as_well() {
    let mut sender = Sender::with_weights(SenderLimits { questions_max: 4, ..limits() }, &[1, 1]);
    sender.handle_link_up(at(0), A, 1, 0);
    for number in 0..2 {
        submit_of(&mut sender, SHOES, cancel(number)).unwrap();
    }
    for number in [0, 1, 0, 1] {
        submit_of(&mut sender, SHOES, ask(number)).unwrap();
    }
    assert_eq!(ask_many(&mut sender, TEA, 10), 2);
    assert_eq!(drain(&mut sender), ["6 pushed out", "5 pushed out"]);
}

/// Links A and B, each with two questions of the shoes' crowd on it, which is an eighth of its
/// window. Four more of them wait, and three of the tea brand.
fn crowded() -> Sender {
    let mut sender = Sender::with_weights(SenderLimits { questions_max: 8, ..limits() }, &[1, 1]);
    for link in [A, B] {
        sender.handle_link_up(at(0), link, 1, 16);
    }
    assert_eq!(ask_many(&mut sender, SHOES, 8), 8);
    assert_eq!(ask_many(&mut sender, TEA, 3), 3);
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "link 2 <- 2", "link 1 <- 3", "link 2 <- 4"]);
    sender
}

#[test]
fn a_crowd_on_the_second_link_refuses_no_other_brands_question() {
    let mut sender = crowded();
    let busy = |sender: &mut Sender, link, id| {
        sender.handle_answer(at(1), link, refused(RequestId(id), Refusal::Busy));
        drain(sender)
    };
    let missing = |sender: &mut Sender, link, id| {
        missing(sender, link, RequestId(id));
        drain(sender)
    };
    assert_eq!(busy(&mut sender, A, 1), ["1 Refused(Busy)", "link 1 <- 5"]);
    assert_eq!(busy(&mut sender, A, 3), ["3 Refused(Busy)", "link 1 <- 9"], "the tea brand's turn");
    assert_eq!(missing(&mut sender, A, 9), ["link 2 <- 9", "link 1 <- 6"], "although two are on it");
    assert_eq!(missing(&mut sender, A, 5), ["5 Refused(Busy)", "link 1 <- 10"], "the crowd has its share");
    assert_eq!(missing(&mut sender, A, 10), ["10 Refused(Busy)", "link 1 <- 7"], "and so has the tea brand");
    assert_eq!(busy(&mut sender, B, 2), ["2 Refused(Busy)"], "there are still as many as its part");
    assert_eq!(missing(&mut sender, B, 9), ["9 Refused(NotFound)", "link 2 <- 11"]);
    assert_eq!(missing(&mut sender, B, 11), ["link 1 <- 11", "link 2 <- 8"], "the other way round");
}

#[test]
fn a_link_takes_twice_its_part_of_questions_at_most() {
    let weights = [1; 8];
    let mut sender = Sender::with_weights(SenderLimits { questions_max: 8, ..limits() }, &weights);
    sender.handle_link_up(at(0), B, 1, 16);
    assert_eq!(ask_many(&mut sender, SHOES, 2), 2);
    sender.handle_link_up(at(0), A, 1, 64);
    for brand in 1..8 {
        let id = submit_of(&mut sender, BrandIndex(brand), ask(1)).unwrap();
        missing(&mut sender, A, id);
    }
    let second: Vec<String> =
        drain(&mut sender).into_iter().filter(|done| !done.starts_with("link 1")).collect();
    let expected = ["link 2 <- 1", "link 2 <- 2", "link 2 <- 3", "link 2 <- 4"].map(str::to_owned);
    assert_eq!(second[..4], expected);
    assert!(
        second[4..].iter().all(|done| done.ends_with("Refused(Busy)")) && second.len() == 9,
        "{second:?}"
    );
}
