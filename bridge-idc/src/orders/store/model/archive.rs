//! What the model keeps of each COMMIT, so that a DBA can restore it to any moment: a backup, and an archive of its log.

use std::time::Duration;

use super::rows::Rows;

/// A backup and what was committed since.
#[derive(Debug)]
pub(super) struct Archive {
    backup: Rows,
    commits: Vec<Archived>,
    /// Whether a restore leaves out the last COMMIT before its moment.
    lacks: bool,
}

/// One COMMIT.
#[derive(Debug)]
struct Archived {
    at: Duration,
    written: Rows,
    /// Changes of somebody beside the agents that were committed by then.
    changes: u64,
}

impl Archive {
    /// Begins with a backup of these rows.
    pub(super) fn of(backup: Rows) -> Self {
        Self { backup, commits: Vec::new(), lacks: false }
    }

    /// From here on a restore leaves out the last COMMIT before its moment.
    pub(super) fn lack_the_last(&mut self) {
        self.lacks = true;
    }

    /// The rows as they were at that moment.
    pub(super) fn rows_at(&self, to: Duration) -> Rows {
        self.rows(self.kept(to))
    }

    /// Forgets what came after that moment; returns the rows of then, and how many changes of others were committed.
    pub(super) fn restore(&mut self, to: Duration) -> (Rows, u64) {
        let kept = self.kept(to);
        self.commits.truncate(kept);
        (self.rows(kept), self.commits.last().map_or(0, |commit| commit.changes))
    }

    pub(super) fn add(&mut self, at: Duration, written: Rows, changes: u64) {
        self.commits.push(Archived { at, written, changes });
    }

    /// How many COMMITs a restore to that moment keeps.
    fn kept(&self, to: Duration) -> usize {
        let kept = self.commits.partition_point(|commit| commit.at <= to);
        if self.lacks { kept.saturating_sub(1) } else { kept }
    }

    /// The rows after so many of them.
    fn rows(&self, kept: usize) -> Rows {
        let mut rows = self.backup.clone();
        self.commits.iter().take(kept).for_each(|commit| rows.take(commit.written.clone()));
        rows
    }
}
