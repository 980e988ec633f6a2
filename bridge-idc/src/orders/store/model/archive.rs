//! The model's backup and archive of commits, from which the simulation restores any moment.

use std::time::Duration;

use super::rows::Rows;

/// A backup, and all commits since.
#[derive(Debug)]
pub(super) struct Archive {
    backup: Rows,
    commits: Vec<Archived>,
    /// True if a restore leaves out the last commit before its moment.
    lacks: bool,
}

/// One commit.
#[derive(Debug)]
struct Archived {
    at: Duration,
    written: Rows,
    /// Number of changes by other sessions that were committed by then.
    changes: u64,
}

impl Archive {
    /// Starts an archive with a backup of these rows.
    pub(super) fn of(backup: Rows) -> Self {
        Self { backup, commits: Vec::new(), lacks: false }
    }

    /// Makes every later restore leave out the last commit before its moment.
    pub(super) fn lack_the_last(&mut self) {
        self.lacks = true;
    }

    /// Returns the rows as they were at this moment.
    pub(super) fn rows_at(&self, to: Duration) -> Rows {
        self.rows(self.kept(to))
    }

    /// Forgets all commits after this moment. Returns the rows at that moment, and the number of
    /// committed changes by other sessions.
    pub(super) fn restore(&mut self, to: Duration) -> (Rows, u64) {
        let kept = self.kept(to);
        self.commits.truncate(kept);
        (self.rows(kept), self.commits.last().map_or(0, |commit| commit.changes))
    }

    pub(super) fn add(&mut self, at: Duration, written: Rows, changes: u64) {
        self.commits.push(Archived { at, written, changes });
    }

    /// Returns the number of commits that a restore to this moment keeps.
    fn kept(&self, to: Duration) -> usize {
        let kept = self.commits.partition_point(|commit| commit.at <= to);
        if self.lacks { kept.saturating_sub(1) } else { kept }
    }

    /// Returns the rows after the first `kept` commits.
    fn rows(&self, kept: usize) -> Rows {
        let mut rows = self.backup.clone();
        self.commits.iter().take(kept).for_each(|commit| rows.take(commit.written.clone()));
        rows
    }
}
