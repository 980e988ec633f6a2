//! Limits and result of one round of the sequencer.

use std::time::Duration;

use bridge_protocol::domain::catalogue::Position;

/// Most pending rows in one round. A large import takes several short rounds.
pub(super) const PENDING_MAX: i64 = 10_000;

/// Most rows of the log that one statement checks for deletion, oldest first.
pub(super) const FORGET_MAX: i64 = 5_000;

/// The part of the log that is kept. A replica that was away for longer starts again with whole
/// rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeLogLimits {
    /// Most changes.
    pub changes_kept: u64,
    /// Longest age of a change. The newest change stays in any case.
    pub changes_kept_for: Duration,
}

impl Default for ChangeLogLimits {
    fn default() -> Self {
        // A million changes take about 100 MB. The age is the configuration's default.
        Self { changes_kept: 1_000_000, changes_kept_for: Duration::from_secs(24 * 60 * 60) }
    }
}

/// The result of a round.
pub(super) struct Round {
    /// True if this agent holds the lease.
    pub(super) held: bool,
    /// The number of keys that got a number.
    pub(super) numbered: i64,
    /// True if every change that was committed before the round has a number.
    pub(super) emptied: bool,
    /// The last number of the log.
    pub(super) position: Position,
    /// Age of the last sweep when the round began. Every change that was committed before that
    /// sweep has a number.
    pub(super) lag: Duration,
}

pub(super) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
