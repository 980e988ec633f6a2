//! Outcomes of steps: decoded from answers, and added up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;

use crate::testkit::histogram::Histogram;
use crate::testkit::http::HttpAnswer;
use crate::testkit::plan::{Plan, Step};

/// Outcome of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 201: committed under this id.
    Placed {
        /// Id of the order.
        order: String,
    },
    /// 200: the order is cancelled.
    Cancelled,
    /// 409: not enough stock.
    SoldOut,
    /// 409: the price has changed.
    PriceChanged,
    /// Any other final answer, by the name of its problem.
    Refused {
        /// `unknown-sku` for `/problems/unknown-sku`, or the status if the answer is no problem.
        problem: String,
    },
    /// A cancellation whose order was not placed. It was not posted.
    NothingToCancel,
    /// The time was over. The request may have had its effect or not.
    Unknown,
}

/// An outcome, with the number of requests that it took.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The outcome.
    pub outcome: Outcome,
    /// True if the outcome is from before this run, because the first answer was a replay.
    pub replayed: bool,
    /// Number of requests.
    pub attempts: u32,
}

/// Result of a run.
#[derive(Debug)]
pub struct Report {
    /// The plan that was replayed.
    pub plan: Arc<Plan>,
    /// The outcome of each step of the plan, in its order.
    pub settled: Vec<Settled>,
    /// Latency of orders, from the first request to the last answer.
    pub latency: Histogram,
    /// Time from the first step to the last.
    pub took: Duration,
}

/// Number of steps by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Orders that were posted.
    pub placed: u64,
    /// Orders that were answered with 201.
    pub committed: u64,
    /// Orders that were sold out.
    pub sold_out: u64,
    /// Orders refused for another reason, a changed price included.
    pub refused: u64,
    /// Orders whose outcome is open.
    pub unknown: u64,
    /// Orders that were decided before this run.
    pub replayed: u64,
    /// Orders that were cancelled after they were placed.
    pub cancelled: u64,
    /// Cancellations of placed orders that were refused or whose outcome is open.
    pub not_cancelled: u64,
}

impl Report {
    /// Counts the steps by their outcomes.
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

    /// Returns the number of refusals by problem.
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

    /// Returns the steps that were settled in a second.
    #[must_use]
    pub fn per_second(&self) -> u64 {
        let micros = self.took.as_micros().max(1);
        u64::try_from(self.settled.len() as u128 * 1_000_000 / micros).unwrap_or(u64::MAX)
    }
}

/// The meaning of one answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Known(Outcome),
    /// The request may have an effect, now or later.
    Open,
    /// The request was refused before it had an effect. A later attempt may succeed.
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
