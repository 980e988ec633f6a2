//! Report of a run, as text and as one JSON object.

use std::fmt;

use serde::Serialize;

use super::counts::Counts;
use super::options::{Options, Sabotage};
use super::world::Ended;

/// Result of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Seed of the run, which is the seed of its first schedule.
    pub seed: u64,
    /// Orders that callers placed, each under its own key.
    pub orders: u64,
    /// Number of schedules.
    pub schedules: u64,
    /// Number of violations; a run ends with the first.
    pub violations: u64,
    /// Duration of the run.
    pub seconds: u64,
    /// Number of orders in a second.
    pub per_second: u128,
    /// Hash of all events.
    pub trace: u64,
    /// Number of times that each thing happened.
    pub counts: Counts,
    /// Kinds of events that a run of this length must have, and this run did not have. Then the
    /// simulation itself is at fault.
    pub missing: Vec<&'static str>,
    /// The violation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Violation>,
}

/// A violation, and the command that repeats it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The broken promise.
    pub promise: &'static str,
    /// Description of the violation.
    pub what: String,
    /// Seed of the schedule.
    pub seed: u64,
    /// Command that repeats the schedule.
    pub repeat: String,
    /// Last events before the violation.
    pub story: Vec<String>,
}

impl Report {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            seed: options.seed.unwrap_or_else(rand::random),
            orders: 0,
            schedules: 0,
            violations: 0,
            seconds: 0,
            per_second: 0,
            trace: 0,
            counts: Counts::default(),
            missing: Vec::new(),
            found: None,
        }
    }

    pub(super) fn add(&mut self, ended: &Ended) {
        self.orders += ended.orders;
        self.schedules += 1;
        self.violations += u64::from(ended.violation.is_some());
        self.trace = self.trace.rotate_left(1) ^ ended.trace;
        self.counts.add(&ended.counts);
    }

    /// Returns true if no promise was broken and each kind of fault happened.
    pub fn passed(&self) -> bool {
        self.violations == 0 && self.missing.is_empty()
    }
}

impl Ended {
    /// Returns the violation with its story, if there is one.
    pub(super) fn found(self, seed: u64, sabotage: Option<Sabotage>) -> Option<Violation> {
        let (promise, what) = self.violation?;
        let mut repeat = format!("cargo simulate --seed {seed} --schedules 1");
        if let Some(sabotage) = sabotage {
            repeat += &format!(" --sabotage {}", sabotage.name());
        }
        Some(Violation { promise, what, seed, repeat, story: self.story })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(found) = &self.found {
            writeln!(f, "The last events of schedule {}:", found.seed)?;
            found.story.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
            writeln!(f, "\n{} IS BROKEN: {}", found.promise, found.what)?;
            writeln!(f, "repeat it with: {}\n", found.repeat)?;
        }
        writeln!(
            f,
            "{} orders in {} schedules, {} violations, {} s ({} orders/s), seed {}, trace {:016x}",
            self.orders,
            self.schedules,
            self.violations,
            self.seconds,
            self.per_second,
            self.seed,
            self.trace
        )?;
        let counts: Vec<String> =
            self.counts.iter().map(|(name, count)| format!("{name} {count}").replace('_', " ")).collect();
        for row in counts.chunks(5) {
            writeln!(f, "  {}", row.join(" · "))?;
        }
        if !self.missing.is_empty() {
            writeln!(f, "never happened, so nothing is proved about it: {}", self.missing.join(", "))?;
        }
        Ok(())
    }
}
