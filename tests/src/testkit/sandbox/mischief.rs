//! What the sandbox does wrong: told for the next requests, or by rates from a seed, so that a run can be repeated.

use std::collections::VecDeque;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// One way to answer a request that moves money, or asks about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mischief {
    /// None: it does what it is asked for and says so.
    Fine,
    /// It refuses, and moves nothing.
    Decline,
    /// It never answers, and moves nothing.
    HangBefore,
    /// It does what it is asked for and never answers.
    HangAfter,
    /// It never answers, and does what it is asked for when it is let go.
    Held,
    /// It waits until it is let go, and then does what it is asked for and says so.
    Waits,
    /// It fails, and moves nothing.
    FailBefore,
    /// It does what it is asked for and says that it failed.
    FailAfter,
    /// It does what it is asked for and answers a page for people.
    Html,
    /// It does what it is asked for and sends the caller elsewhere.
    Redirect,
    /// It does what it is asked for and answers ten megabytes.
    Huge,
    /// It does what it is asked for and answers nothing at all.
    Nothing,
    /// It does what it is asked for and answers half a JSON object.
    BrokenJson,
    /// It does what it is asked for and names another amount.
    WrongAmount,
    /// It does what it is asked for and names another order.
    WrongOrder,
    /// It does what it is asked for and answers a code that looks like a refusal and is none.
    AlreadyProcessed,
}

/// How often each mischief happens, of a thousand requests. What is left is fine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Where the dice start.
    pub seed: u64,
    /// Declined, of a thousand.
    pub decline: u32,
    /// Hung before anything moved, of a thousand.
    pub hang_before: u32,
    /// Hung after it was done, of a thousand.
    pub hang_after: u32,
    /// Failed before anything moved, of a thousand.
    pub fail_before: u32,
    /// Done and said to have failed, of a thousand.
    pub fail_after: u32,
}

/// Decides about each request.
#[derive(Debug)]
pub(super) struct Mischiefs {
    rates: Rates,
    dice: ChaCha8Rng,
    /// Told for the next requests, before any rate counts.
    pub(super) next: VecDeque<Mischief>,
}

impl Mischiefs {
    pub(super) fn new(rates: Rates) -> Self {
        let dice = ChaCha8Rng::seed_from_u64(rates.seed);
        Self { rates, dice, next: VecDeque::new() }
    }

    /// What is done to the next request.
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
