//! Held rows whose queues move: requests for them were committed a moment ago. Such a row is not
//! held for long. Another agent of the data centre, or an import, takes turns at it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::orders::planner::Awaited;

/// Time after which a queue that has committed nothing stands still. It is longer than a commit
/// that counts in the limits.
const MOVES_FOR: Duration = Duration::from_secs(5);

/// Most rows that are remembered. The queue of a further one counts as standing still.
const ROWS_MAX: usize = 1_024;

/// The rows whose queues move.
#[derive(Debug, Default)]
pub(super) struct Movements {
    rows: BTreeMap<Awaited, Movement>,
}

#[derive(Debug, Clone, Copy)]
struct Movement {
    /// Time of the first commit after the queue stood still.
    since: Duration,
    /// Time of the last commit.
    last: Duration,
}

impl Movements {
    /// Takes that requests for a row were committed. The row is remembered also while nobody waits
    /// for it.
    pub(super) fn note(&mut self, now: Duration, awaited: &Awaited) {
        if let Some(movement) = self.rows.get_mut(awaited) {
            let since = if movement.moves(now) { movement.since } else { now };
            *movement = Movement { since, last: now };
        } else if self.rows.len() < ROWS_MAX {
            self.rows.insert(awaited.clone(), Movement { since: now, last: now });
        }
    }

    /// Returns the time for which a row's queue has moved. Returns `None` if it stands still.
    pub(super) fn moves_for(&self, now: Duration, awaited: &Awaited) -> Option<Duration> {
        let movement = self.rows.get(awaited).filter(|movement| movement.moves(now))?;
        Some(now.saturating_sub(movement.since))
    }

    /// Forgets the rows whose queues stand still.
    pub(super) fn forget_standing(&mut self, now: Duration) {
        self.rows.retain(|_, movement| movement.moves(now));
    }
}

impl Movement {
    fn moves(self, now: Duration) -> bool {
        now.saturating_sub(self.last) < MOVES_FOR
    }
}
