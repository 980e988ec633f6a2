//! What the model keeps of each COMMIT, so that a DBA can restore it to any moment: a backup, and an archive of its log.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::ModelDatabase;
use super::tables::{Rows, Tables};

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

impl Tables {
    /// Everything is as it was at that moment: what was open is gone, and the ledger's numbers go on where they were then, or a
    /// little later, since a sequence is logged ahead.
    fn restore(&mut self, to: Duration, skipped: i64) {
        self.roll_back_all();
        let Some(archive) = &mut self.archive else { return };
        let kept = archive.kept(to);
        archive.commits.truncate(kept);
        let rows = archive.rows(kept);
        let changes = archive.commits.last().map_or(0, |commit| commit.changes);
        let last = rows.outcomes.values().map(|row| row.position).max().unwrap_or(0);
        self.go_on_from(rows, changes, last + skipped);
    }
}

impl ModelDatabase {
    /// Keeps from here on what a restore needs.
    pub fn archive(&self) {
        let mut tables = self.tables.borrow_mut();
        let backup = tables.committed.clone();
        tables.archive = Some(Archive { backup, commits: Vec::new(), lacks: false });
    }

    /// Breaks promise P1 from here on: a restore leaves out the last COMMIT before its moment.
    pub fn restore_too_early(&self) {
        if let Some(archive) = &mut self.tables.borrow_mut().archive {
            archive.lacks = true;
        }
    }

    /// Another database, as this one would be if it were restored to that moment: for whoever only looks.
    pub fn restored_beside(&self, to: Duration) -> Self {
        let tables = self.tables.borrow();
        let rows = tables.archive.as_ref().map(|archive| archive.rows(archive.kept(to)));
        let mut beside = Tables::default();
        beside.committed = rows.unwrap_or_default();
        Self { tables: Rc::new(RefCell::new(beside)), admitted: Rc::new([]) }
    }

    /// Restores the database to that moment. The ledger's numbers go on where they were then, but for so many.
    pub fn restore(&self, to: Duration, skipped: i64) {
        self.tables.borrow_mut().restore(to, skipped);
    }
}
