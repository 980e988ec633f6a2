//! The time for which a write is still settled, in its frames, and refusals because it has passed.

use super::*;

/// Returns the times of the frames that are sent now.
fn remaining(sender: &mut Sender) -> Vec<Option<u32>> {
    let sent = std::iter::from_fn(|| sender.poll_output()).filter_map(|output| match output {
        Output::Transmit { message, .. } => Some(message.remaining_millis),
        _ => None,
    });
    sent.collect()
}

#[test]
fn a_frame_names_the_time_for_which_its_write_is_settled() {
    let mut sender = connected(1);
    submit(&mut sender, at(0), cancel(1));
    assert_eq!(remaining(&mut sender), [Some(70_000)]);
    sender.handle_timeout(Duration::from_micros(4_000_001));
    assert_eq!(remaining(&mut sender), [Some(66_000)], "it is rounded up");
    sender.handle_timeout(at(10));
    sender.handle_timeout(at(13));
    assert_eq!(remaining(&mut sender), [Some(57_000)], "also after its caller was answered");
}

#[test]
fn a_question_names_no_time() {
    let mut sender = connected(8);
    submit(&mut sender, at(0), ask(1));
    assert_eq!(remaining(&mut sender), [None]);
}

#[test]
fn late_settles_a_write_that_was_sent_once() {
    let mut sender = connected(8);
    let id = submit(&mut sender, at(0), cancel(1));
    sender.handle_timeout(at(3));
    sender.handle_answer(at(3), A, refused(id, Refusal::Late));
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "1 Refused(Late)"]);
    assert_eq!(sender.unsettled(), 0, "its key is free for a new attempt");
}

#[test]
fn late_says_nothing_of_a_copy_whose_fate_is_unknown() {
    let mut sender = connected(8);
    let id = submit(&mut sender, at(0), cancel(1));
    sender.handle_link_down(at(1), A);
    sender.handle_link_up(at(2), B, 1, 8);
    sender.handle_answer(at(9), B, refused(id, Refusal::Late));
    assert_eq!(drain(&mut sender), ["link 1 <- 1", "link 2 <- 1"]);
    assert_eq!(sender.unsettled(), 1);
}
