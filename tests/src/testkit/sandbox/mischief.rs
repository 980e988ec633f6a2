//! Faults of the sandbox: set for the next requests, or drawn at given rates from a seed, so that a
//! run can be repeated.

use std::collections::VecDeque;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// A fault of the sandbox in its answer to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mischief {
    /// No fault: the sandbox carries out the request and says so.
    Fine,
    /// The sandbox refuses, and moves no money.
    Decline,
    /// The sandbox never answers, and moves no money.
    HangBefore,
    /// The sandbox carries out the request, and never answers.
    HangAfter,
    /// The sandbox never answers, and carries out the request when the test releases it.
    Held,
    /// The sandbox waits until the test releases the request, then carries it out and says so.
    Waits,
    /// The sandbox answers with an error, and moves no money.
    FailBefore,
    /// The sandbox carries out the request, and answers with an error.
    FailAfter,
    /// The sandbox carries out the request, and answers with an HTML page.
    Html,
    /// The sandbox carries out the request, and answers with a redirect.
    Redirect,
    /// The sandbox carries out the request, and answers with ten megabytes.
    Huge,
    /// The sandbox carries out the request, and closes the connection without an answer.
    Nothing,
    /// The sandbox carries out the request, and answers with half a JSON object.
    BrokenJson,
    /// The sandbox carries out the request, and answers with another amount.
    WrongAmount,
    /// The sandbox carries out the request, and answers with another order.
    WrongOrder,
    /// The sandbox carries out the request, and answers with a code that looks like a refusal but
    /// is not one.
    AlreadyProcessed,
}

/// Rate of each fault, in a thousand requests. All other requests are answered without a fault.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Seed of the draws.
    pub seed: u64,
    /// Requests in a thousand that are declined.
    pub decline: u32,
    /// Requests in a thousand that hang before money moves.
    pub hang_before: u32,
    /// Requests in a thousand that hang after money has moved.
    pub hang_after: u32,
    /// Requests in a thousand that fail before money moves.
    pub fail_before: u32,
    /// Requests in a thousand that fail after money has moved.
    pub fail_after: u32,
}

/// Chooses a fault for each request.
#[derive(Debug)]
pub(super) struct Mischiefs {
    rates: Rates,
    dice: ChaCha8Rng,
    /// Faults of the next requests. They come before any rate.
    pub(super) next: VecDeque<Mischief>,
}

impl Mischiefs {
    pub(super) fn new(rates: Rates) -> Self {
        let dice = ChaCha8Rng::seed_from_u64(rates.seed);
        Self { rates, dice, next: VecDeque::new() }
    }

    /// Returns the fault of the next request.
    pub(super) fn decide(&mut self) -> Mischief {
        if let Some(told) = self.next.pop_front() {
            return told;
        }
        let rates = &self.rates;
        let mut roll = self.dice.random_range(0..1_000);
        for (rate, mischief) in [
            (rates.decline, Mischief::Decline),
            (rates.hang_before, Mischief::HangBefore),
            (rates.hang_after, Mischief::HangAfter),
            (rates.fail_before, Mischief::FailBefore),
            (rates.fail_after, Mischief::FailAfter),
        ] {
            if roll < rate {
                return mischief;
            }
            roll -= rate;
        }
        Mischief::Fine
    }
}
