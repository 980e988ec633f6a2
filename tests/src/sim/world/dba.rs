//! DBAs beside the agents. Each runs a transaction of a few changes in random order, and commits it
//! or rolls it back.

use bridge_idc::orders::store::model::{Change, Changed, Shell};

use super::{Event, World, note};

/// A transaction that is under way.
pub(super) struct Dba {
    shell: Shell,
    /// The changes that remain; the next one is last.
    changes: Vec<Change>,
}

impl World {
    /// Starts a DBA's transaction.
    pub(super) fn dba_begins(&mut self) {
        let Some(shell) = self.ledger.begin_shell() else { return };
        let changes = (0..=self.dice.index(4)).map(|_| self.drawn_change()).collect();
        note!(self, "a DBA begins: {changes:?}");
        self.dbas_made += 1;
        self.dbas.insert(self.dbas_made, Dba { shell, changes });
        self.after(std::time::Duration::ZERO, Event::Dba(self.dbas_made));
    }

    fn drawn_change(&mut self) -> Change {
        let rows = self.shop.stock.len();
        // The hot SKUs of either brand come first.
        let row = if self.dice.happens(6_000) {
            self.dice.index(2) * rows / 2 + self.dice.index(3)
        } else {
            self.dice.index(rows)
        };
        let sku_id = i64::try_from(row).unwrap_or(0) + 1;
        if self.dice.happens(7_000) {
            Change::Restock { sku_id, units: i64::try_from(self.dice.between(0..=12)).unwrap_or(0) - 4 }
        } else {
            let price = self.shop.stock[row].price + i64::try_from(self.dice.between(0..=1)).unwrap_or(0);
            Change::Price { sku_id, price }
        }
    }

    /// Runs a DBA's next statement.
    pub(super) fn dba_goes(&mut self, id: u64) {
        self.ledger.set_now(self.now, Default::default(), false);
        let Some(dba) = self.dbas.get_mut(&id) else { return };
        let Some(change) = dba.changes.last().copied() else { return self.dba_ends(id, true) };
        let delay = match self.ledger.change(&dba.shell, change) {
            Changed::Done => {
                dba.changes.pop();
                // A person thinks between two statements.
                self.dice.micros(20..=40_000)
            }
            Changed::Waits => {
                self.counts.dba_waits += 1;
                self.dice.micros(500..=5_000)
            }
            Changed::Refused => return self.dba_ends(id, false),
        };
        self.after(delay, Event::Dba(id));
    }

    fn dba_ends(&mut self, id: u64, commits: bool) {
        let Some(dba) = self.dbas.remove(&id) else { return };
        let commits = commits && !self.dice.happens(1_000);
        note!(self, "a DBA {}", if commits { "commits" } else { "rolls back" });
        self.counts.dba_commits += u64::from(commits);
        self.counts.dba_rollbacks += u64::from(!commits);
        self.ledger.end_shell(dba.shell, commits);
        self.check_effects();
    }
}
