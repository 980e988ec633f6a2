//! Restores of the model's database to an earlier moment from its archive, as a DBA makes them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::ModelDatabase;
use super::archive::Archive;
use super::tables::Tables;

impl Tables {
    /// Restores the rows of a moment. Open transactions are lost. Positions continue after the last
    /// one of that moment, with `skipped` left out, because a real sequence is logged ahead of its
    /// use.
    fn restore(&mut self, to: Duration, skipped: i64) {
        self.roll_back_all();
        let Some(archive) = &mut self.archive else { return };
        let (rows, changes) = archive.restore(to);
        let last = rows.outcomes.values().map(|row| row.position).max().unwrap_or(0);
        self.go_on_from(rows, changes, last + skipped);
    }
}

impl ModelDatabase {
    /// Starts the archive that restores need.
    pub fn archive(&self) {
        let mut tables = self.tables.borrow_mut();
        let backup = tables.committed.clone();
        tables.archive = Some(Archive::of(backup));
    }

    /// Breaks promise P1 from now on: a restore leaves out the last commit before its moment.
    pub fn restore_too_early(&self) {
        if let Some(archive) = &mut self.tables.borrow_mut().archive {
            archive.lack_the_last();
        }
    }

    /// Returns another database with the rows of this one at that moment, for reads only.
    pub fn restored_beside(&self, to: Duration) -> Self {
        let tables = self.tables.borrow();
        let rows = tables.archive.as_ref().map(|archive| archive.rows_at(to));
        let mut beside = Tables::default();
        beside.committed = rows.unwrap_or_default();
        Self { tables: Rc::new(RefCell::new(beside)), admitted: Rc::new([]) }
    }

    /// Restores the database to that moment. Positions continue after the last one of that moment,
    /// with `skipped` left out.
    pub fn restore(&self, to: Duration, skipped: i64) {
        self.tables.borrow_mut().restore(to, skipped);
    }
}
