//! What is done about a payment that nobody can tell about: a pure function of what the gateway knows of it, of its age
//! and of its order.

use std::time::Duration;

use bridge_protocol::domain::ReasonCode;
use rand::{Rng, RngExt as _};

use super::gateway::{Answer, Found};

/// The shopper's agreement is valid this long at most (Toss Payments: ten minutes): after that nothing is confirmed for a
/// payment that the gateway has no trace of.
const CONFIRM_FOR: Duration = Duration::from_secs(30 * 60);

/// When a payment of which the gateway has no trace is over: nothing has been confirmed for so long that no request of
/// ours can still be on its way.
const NO_TRACE_IS_FINAL_AFTER: Duration = Duration::from_secs(60 * 60);

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is known: this is to be written.
    Conclude(Answer),
    /// It is confirmed once more, under the same key.
    ConfirmAgain,
    /// It is asked about later.
    AskLater,
}

/// What follows from what the gateway knows of a payment of this age, whose order stands or does not.
///
/// An order that does not stand is never charged again; it is asked about until the gateway tells.
pub fn next_step(found: Found, age: Duration, order_stands: bool) -> Step {
    match found {
        Found::Charged => Step::Conclude(Answer::Done),
        Found::NotCharged(code) => Step::Conclude(Answer::Refused(code)),
        Found::NoTrace if age >= NO_TRACE_IS_FINAL_AFTER => {
            Step::Conclude(Answer::Refused(ReasonCode::new("NO_TRACE").unwrap_or_else(ReasonCode::other)))
        }
        Found::NoTrace if order_stands && age < CONFIRM_FOR => Step::ConfirmAgain,
        Found::NotConcluded if order_stands => Step::ConfirmAgain,
        Found::NoTrace | Found::NotConcluded | Found::Unknown(_) => Step::AskLater,
    }
}

/// How long until something is asked about again that was asked about `asks` times: exponential, with full jitter, from
/// `first` to `most`.
pub fn back_off(asks: u32, first: Duration, most: Duration, random: &mut impl Rng) -> Duration {
    let ceiling = first.saturating_mul(2_u32.saturating_pow(asks)).min(most).max(first);
    let spread = u64::try_from((ceiling - first).as_micros()).unwrap_or(u64::MAX);
    first + Duration::from_micros(random.random_range(0..=spread))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payment::gateway::NoProof;

    const YOUNG: Duration = Duration::from_secs(5);

    fn code(text: &str) -> ReasonCode {
        ReasonCode::new(text).unwrap()
    }

    #[test]
    fn what_the_gateway_knows_for_certain_is_written_whatever_the_order_does() {
        for stands in [true, false] {
            assert_eq!(next_step(Found::Charged, YOUNG, stands), Step::Conclude(Answer::Done));
            let step = next_step(Found::NotCharged(code("EXPIRED")), YOUNG, stands);
            assert_eq!(step, Step::Conclude(Answer::Refused(code("EXPIRED"))));
            let unknown = Found::Unknown(NoProof::TimedOut);
            assert_eq!(next_step(unknown, YOUNG, stands), Step::AskLater);
        }
    }

    #[test]
    fn what_is_not_concluded_is_confirmed_again_only_while_its_order_stands() {
        for found in [Found::NotConcluded, Found::NoTrace] {
            assert_eq!(next_step(found.clone(), YOUNG, true), Step::ConfirmAgain);
            assert_eq!(next_step(found, YOUNG, false), Step::AskLater);
        }
    }

    #[test]
    fn a_payment_without_a_trace_is_over_once_no_request_of_ours_can_be_on_its_way() {
        let between = Duration::from_secs(45 * 60);
        let over = Step::Conclude(Answer::Refused(code("NO_TRACE")));
        for stands in [true, false] {
            assert_eq!(next_step(Found::NoTrace, between, stands), Step::AskLater);
            assert_eq!(next_step(Found::NoTrace, NO_TRACE_IS_FINAL_AFTER, stands), over);
        }
        assert!(NO_TRACE_IS_FINAL_AFTER > CONFIRM_FOR + Duration::from_secs(10 * 60));
    }

    #[test]
    fn the_time_between_two_questions_grows_and_has_an_end() {
        let (first, most) = (Duration::from_secs(1), Duration::from_secs(600));
        let mut random = rand::rng();
        for asks in [0, 1, 5, 9, 10, 40, u32::MAX] {
            let ceiling = Duration::from_secs(1_u64.checked_shl(asks).unwrap_or(600).clamp(1, 600));
            for _ in 0..200 {
                let delay = back_off(asks, first, most, &mut random);
                assert!((first..=ceiling).contains(&delay), "{asks}: {delay:?}");
            }
        }
    }
}
