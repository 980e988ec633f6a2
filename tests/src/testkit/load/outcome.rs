//! What a step came to, what one answer says of that, and what all of them add up to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;

use crate::testkit::histogram::Histogram;
use crate::testkit::http::HttpAnswer;
use crate::testkit::plan::{Plan, Step};

/// What one step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 201: committed, under this id.
    Placed {
        /// The order's id.
        order: String,
    },
    /// 200: the order is cancelled.
    Cancelled,
    /// 409: not enough stock.
    SoldOut,
    /// 409: another price.
    PriceChanged,
    /// Any other answer that will not change, by the name of its problem.
    Refused {
        /// `unknown-sku` for `/problems/unknown-sku`, or the status where there was no problem.
        problem: String,
    },
    /// A cancellation whose order was not placed: nothing was posted.
    NothingToCancel,
    /// Patience was over: it may have had its effect or not.
    Unknown,
}

/// An outcome and how it was reached.
#[derive(Clone, Debug)]
pub struct Settled {
    /// What it came to.
    pub outcome: Outcome,
    /// It had been decided before this run: the first answer said that it is a replay.
    pub replayed: bool,
    /// Requests it took.
    pub attempts: u32,
}

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// What was replayed.
    pub plan: Arc<Plan>,
    /// One for each step of the plan, in its order.
    pub settled: Vec<Settled>,
    /// How long orders took, from the first request to the last answer.
    pub latency: Histogram,
    /// From the first step to the last.
    pub took: Duration,
}

/// How many steps came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Orders posted.
    pub placed: u64,
    /// Orders answered 201.
    pub committed: u64,
    /// Orders answered sold out.
    pub sold_out: u64,
    /// Orders refused otherwise, a changed price included.
    pub refused: u64,
    /// Orders still open.
    pub unknown: u64,
    /// Orders decided before this run.
    pub replayed: u64,
    /// Orders cancelled afterwards.
    pub cancelled: u64,
    /// Cancellations of placed orders that were refused or stayed open.
    pub not_cancelled: u64,
}

impl Report {
    /// Counts the steps by outcome.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for (step, Settled { outcome, replayed, .. }) in self.plan.steps.iter().zip(&self.settled) {
            match (step, outcome) {
                (Step::Cancel { .. }, Outcome::Cancelled) => tally.cancelled += 1,
                (Step::Cancel { .. }, Outcome::NothingToCancel) => {}
                (Step::Cancel { .. }, _) => tally.not_cancelled += 1,
                (Step::Place(_), outcome) => {
                    tally.placed += 1;
                    tally.replayed += u64::from(*replayed);
                    *match outcome {
                        Outcome::Placed { .. } => &mut tally.committed,
                        Outcome::SoldOut => &mut tally.sold_out,
                        Outcome::Unknown => &mut tally.unknown,
                        _ => &mut tally.refused,
                    } += 1;
                }
            }
        }
        tally
    }

    /// What was refused, by the name of the problem.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<&str, u64> {
        let mut names = BTreeMap::new();
        for settled in &self.settled {
            let name = match &settled.outcome {
                Outcome::Refused { problem } => problem,
                Outcome::PriceChanged => "price-changed",
                _ => continue,
            };
            *names.entry(name).or_default() += 1;
        }
        names
    }

    /// Orders and cancellations settled a second.
    #[must_use]
    pub fn per_second(&self) -> u64 {
        let micros = self.took.as_micros().max(1);
        u64::try_from(self.settled.len() as u128 * 1_000_000 / micros).unwrap_or(u64::MAX)
    }
}

/// What one answer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Known(Outcome),
    /// It may have happened, or may yet.
    Open,
    /// It was refused before anything was done; later it may not be.
    NotNow(String),
}

pub(super) fn read(answer: &HttpAnswer) -> Reading {
    let problem = || answer.problem().unwrap_or_else(|| answer.status.as_str().to_owned());
    match answer.status {
        StatusCode::CREATED => {
            let order =
                answer.header("location").and_then(|path| path.rsplit('/').next()).unwrap_or_default();
            Reading::Known(Outcome::Placed { order: order.to_owned() })
        }
        StatusCode::OK => Reading::Known(Outcome::Cancelled),
        StatusCode::CONFLICT => match problem().as_str() {
            "sold-out" => Reading::Known(Outcome::SoldOut),
            "price-changed" => Reading::Known(Outcome::PriceChanged),
            "in-progress" => Reading::Open,
            other => Reading::Known(Outcome::Refused { problem: other.to_owned() }),
        },
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Reading::NotNow(problem()),
        StatusCode::ACCEPTED => Reading::Open,
        status if status.is_server_error() => Reading::Open,
        _ => Reading::Known(Outcome::Refused { problem: problem() }),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn answers_are_told_apart_by_status_and_problem() {
        let answer = |status: u16, problem: &str| HttpAnswer {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::new(),
            body: format!("{{\"type\":\"/problems/{problem}\"}}").into(),
        };
        assert_eq!(read(&answer(409, "sold-out")), Reading::Known(Outcome::SoldOut));
        assert_eq!(read(&answer(409, "price-changed")), Reading::Known(Outcome::PriceChanged));
        assert_eq!(read(&answer(409, "in-progress")), Reading::Open);
        let reused = Outcome::Refused { problem: "idempotency-key-reused".to_owned() };
        assert_eq!(read(&answer(422, "idempotency-key-reused")), Reading::Known(reused));
        assert_eq!(read(&answer(503, "overloaded")), Reading::NotNow("overloaded".to_owned()));
        assert_eq!(read(&answer(500, "internal")), Reading::Open);
    }
}
