//! The policy for payments of unknown outcome: pure functions of the gateway's answer, the
//! payment's age and its order.

use std::time::Duration;

use bridge_protocol::domain::ReasonCode;
use rand::{Rng, RngExt as _};

use super::gateway::ChargeStatus;

/// Age up to which a payment without a trace at the gateway is confirmed again. The shopper's
/// agreement is not valid for longer (ten minutes at Toss Payments).
const CONFIRM_FOR: Duration = Duration::from_secs(30 * 60);

/// Age from which a payment without a trace at the gateway counts as not paid, if
/// [`QUIET_BEFORE_FINAL`] is over as well.
const NO_TRACE_IS_FINAL_AFTER: Duration = Duration::from_secs(60 * 60);

/// Time without a request on its way before a missing trace is final. A delayed request has arrived
/// by then or never will.
const QUIET_BEFORE_FINAL: Duration = Duration::from_secs(30 * 60);

/// Time until the first look at a payment that was given up. Later intervals are as long as the
/// time since it was given up.
const LOOK_AGAIN_FIRST: Duration = Duration::from_secs(10 * 60);

/// Time after which a payment that was given up is looked at no more.
const LOOK_AGAIN_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The ledger's facts about a payment. Times are by the database's clock.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Time since the payment was begun.
    pub age: Duration,
    /// Time since the last request to charge could be on its way.
    pub quiet: Duration,
    /// True if the payment's order is placed and not cancelled.
    pub order_stands: bool,
    /// True if the payment was given up. It is then only looked at again, and never charged.
    pub given_up: bool,
}

/// The next step for a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write that money moved.
    Charged,
    /// Write that no money moved, unless a request on its way could still change that.
    NotCharged(ReasonCode),
    /// Ask the gateway to charge once more, under the same key.
    ConfirmAgain,
    /// Ask about the payment later.
    AskLater,
}

/// Returns the next step for a payment after the gateway's answer to a query.
///
/// A payment of a cancelled order is never charged again. It is asked about until its outcome is
/// known.
pub fn next_step(found: ChargeStatus, known: Known) -> Step {
    let Known { age, quiet, order_stands, given_up } = known;
    match found {
        ChargeStatus::Charged => Step::Charged,
        _ if given_up => Step::AskLater,
        ChargeStatus::NotCharged(code) => Step::NotCharged(code),
        ChargeStatus::NoTrace if age >= NO_TRACE_IS_FINAL_AFTER && quiet >= QUIET_BEFORE_FINAL => {
            Step::NotCharged(ReasonCode::new("NO_TRACE").unwrap_or_else(ReasonCode::other))
        }
        ChargeStatus::NoTrace if order_stands && age < CONFIRM_FOR => Step::ConfirmAgain,
        ChargeStatus::NotConcluded if order_stands => Step::ConfirmAgain,
        ChargeStatus::NoTrace | ChargeStatus::NotConcluded | ChargeStatus::Unknown(_) => Step::AskLater,
    }
}

/// Returns the time until the next look at a payment that was given up `given_up_for` ago. Returns
/// `None` if there is no further look.
pub fn look_again(given_up_for: Duration) -> Option<Duration> {
    (given_up_for < LOOK_AGAIN_FOR).then(|| given_up_for.max(LOOK_AGAIN_FIRST))
}

/// Returns the delay before the next query after `asks` earlier ones: exponential backoff with full
/// jitter, from `first` to `most`.
pub fn back_off(asks: u32, first: Duration, most: Duration, random: &mut impl Rng) -> Duration {
    let ceiling = first.saturating_mul(2_u32.saturating_pow(asks)).min(most).max(first);
    let spread = u64::try_from((ceiling - first).as_micros()).unwrap_or(u64::MAX);
    first + Duration::from_micros(random.random_range(0..=spread))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payments::gateway::NoProof;

    fn code(text: &str) -> ReasonCode {
        ReasonCode::new(text).unwrap()
    }

    /// Returns facts of a payment: its age and quiet time in minutes, and the state of its order.
    fn known(age: u64, quiet: u64, order_stands: bool) -> Known {
        let minutes = |minutes| Duration::from_secs(60 * minutes);
        Known { age: minutes(age), quiet: minutes(quiet), order_stands, given_up: false }
    }

    #[test]
    fn what_the_gateway_knows_for_certain_is_written_whatever_the_order_does() {
        for stands in [true, false] {
            let young = known(0, 0, stands);
            assert_eq!(next_step(ChargeStatus::Charged, young), Step::Charged);
            let step = next_step(ChargeStatus::NotCharged(code("EXPIRED")), young);
            assert_eq!(step, Step::NotCharged(code("EXPIRED")));
            assert_eq!(next_step(ChargeStatus::Unknown(NoProof::TimedOut), young), Step::AskLater);
        }
    }

    #[test]
    fn what_is_not_concluded_is_confirmed_again_only_while_its_order_stands() {
        for found in [ChargeStatus::NotConcluded, ChargeStatus::NoTrace] {
            assert_eq!(next_step(found.clone(), known(0, 0, true)), Step::ConfirmAgain);
            assert_eq!(next_step(found, known(0, 0, false)), Step::AskLater);
        }
    }

    #[test]
    fn a_payment_without_trace_ends_once_no_request_can_be_under_way() {
        let over = Step::NotCharged(code("NO_TRACE"));
        for stands in [true, false] {
            assert_eq!(next_step(ChargeStatus::NoTrace, known(45, 45, stands)), Step::AskLater);
            assert_eq!(
                next_step(ChargeStatus::NoTrace, known(60, 29, stands)),
                Step::AskLater,
                "asked lately"
            );
            assert_eq!(next_step(ChargeStatus::NoTrace, known(60, 30, stands)), over);
        }
        assert!(NO_TRACE_IS_FINAL_AFTER > CONFIRM_FOR + Duration::from_secs(10 * 60));
    }

    #[test]
    fn a_payment_given_up_is_only_looked_at_ever_less_often() {
        let given_up = Known { given_up: true, ..known(0, 0, true) };
        for found in
            [ChargeStatus::NoTrace, ChargeStatus::NotConcluded, ChargeStatus::NotCharged(code("EXPIRED"))]
        {
            assert_eq!(next_step(found, given_up), Step::AskLater);
        }
        assert_eq!(next_step(ChargeStatus::Charged, given_up), Step::Charged);
        let (mut ago, mut looks) = (Duration::ZERO, 0);
        while let Some(wait) = look_again(ago) {
            assert!(wait >= ago && wait >= LOOK_AGAIN_FIRST);
            (ago, looks) = (ago + wait, looks + 1);
        }
        assert!(looks <= 12 && ago >= LOOK_AGAIN_FOR, "{looks} {ago:?}");
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

    #[test]
    fn the_longer_a_doubt_lasts_the_less_often_it_is_queried() {
        let (first, most) = (Duration::from_secs(1), Duration::from_secs(600));
        let mut random = rand::rng();
        // Of 200 draws between the first delay and the ceiling, at least one is in the upper half,
        // except in one run of 2^200.
        let mut longest = |asks| (0..200).map(|_| back_off(asks, first, most, &mut random)).max().unwrap();
        for (asks, ceiling) in [(1, 2), (3, 8), (6, 64), (9, 512), (10, 600), (u32::MAX, 600)] {
            let (longest, half) = (longest(asks), (first + Duration::from_secs(ceiling)) / 2);
            assert!(longest > half, "asked {asks} times: {longest:?} at most");
        }
        assert_eq!(longest(0), first);
    }
}
