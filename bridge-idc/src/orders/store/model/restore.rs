//! Restores of the model to a moment, as a DBA makes them from the archive.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::ModelDatabase;
use super::archive::Archive;
use super::tables::Tables;

impl Tables {
    /// Everything is as it was at that moment: what was open is gone, and the ledger's numbers go on where they were then, or a
    /// little later, since a sequence is logged ahead.
    fn restore(&mut self, to: Duration, skipped: i64) {
        self.roll_back_all();
        let Some(archive) = &mut self.archive else { return };
        let (rows, changes) = archive.restore(to);
        let last = rows.outcomes.values().map(|row| row.position).max().unwrap_or(0);
        self.go_on_from(rows, changes, last + skipped);
    }
}

impl ModelDatabase {
    /// Keeps from here on what a restore needs.
    pub fn archive(&self) {
        let mut tables = self.tables.borrow_mut();
        let backup = tables.committed.clone();
        tables.archive = Some(Archive::of(backup));
    }

    /// Breaks promise P1 from here on: a restore leaves out the last COMMIT before its moment.
    pub fn restore_too_early(&self) {
        if let Some(archive) = &mut self.tables.borrow_mut().archive {
            archive.lack_the_last();
        }
    }

    /// Another database, as this one would be if it were restored to that moment: for whoever only looks.
    pub fn restored_beside(&self, to: Duration) -> Self {
        let tables = self.tables.borrow();
        let rows = tables.archive.as_ref().map(|archive| archive.rows_at(to));
        let mut beside = Tables::default();
        beside.committed = rows.unwrap_or_default();
        Self { tables: Rc::new(RefCell::new(beside)), admitted: Rc::new([]) }
    }

    /// Restores the database to that moment. The ledger's numbers go on where they were then, but for so many.
    pub fn restore(&self, to: Duration, skipped: i64) {
        self.tables.borrow_mut().restore(to, skipped);
    }
}
