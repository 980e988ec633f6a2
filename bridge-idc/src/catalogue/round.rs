//! What a round of the sequencer is told, and what it comes to.

use std::time::Duration;

use bridge_protocol::domain::catalogue::Position;

/// Pending rows in one round: a large import goes in several, each a moment long.
pub(super) const PENDING_MAX: i64 = 10_000;

/// The log's oldest rows that are looked at in one statement.
pub(super) const FORGET_MAX: i64 = 5_000;

/// How much of the log is kept. A replica that was away for longer starts anew, with whole rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeLogLimits {
    /// The most changes.
    pub changes_kept: u64,
    /// For how long at most; the newest change stays in any case.
    pub changes_kept_for: Duration,
}

impl Default for ChangeLogLimits {
    fn default() -> Self {
        // About 100 MB; a day, as the configuration has it.
        Self { changes_kept: 1_000_000, changes_kept_for: Duration::from_secs(24 * 60 * 60) }
    }
}

/// What a round came to.
pub(super) struct Round {
    /// Whether this agent holds the lease.
    pub(super) held: bool,
    /// Keys that got a number.
    pub(super) numbered: i64,
    /// Nothing is pending that was committed before the round.
    pub(super) emptied: bool,
    /// The log's last number.
    pub(super) position: Position,
    /// How long before the round whatever was committed had its number.
    pub(super) lag: Duration,
}

pub(super) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
