//! What a run reports, as text and as one JSON object.

use std::fmt;

use serde::Serialize;

use super::counts::Counts;
use super::options::{Options, Sabotage};
use super::world::Ended;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The run's seed, and its first schedule's.
    pub seed: u64,
    /// Orders that callers placed, each under its own key.
    pub orders: u64,
    /// Schedules run.
    pub schedules: u64,
    /// Violations found; a run ends with the first.
    pub violations: u64,
    /// How long it took.
    pub seconds: u64,
    /// Orders a second.
    pub per_second: u128,
    /// The hash of everything that happened.
    pub trace: u64,
    /// How often each thing happened.
    pub counts: Counts,
    /// Kinds of events that a run of this length must have and this one did not: the simulation's own fault.
    pub missing: Vec<&'static str>,
    /// The violation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Violation>,
}

/// A violation, and how to see it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which promise.
    pub promise: &'static str,
    /// What happened.
    pub what: String,
    /// The schedule's seed.
    pub seed: u64,
    /// The command that repeats it.
    pub repeat: String,
    /// The last events before it.
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

    /// Whether no promise was broken and every kind of fault was there to break one.
    pub fn passed(&self) -> bool {
        self.violations == 0 && self.missing.is_empty()
    }
}

impl Ended {
    /// The violation with its story, if there is one.
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
