//! Transactions of other sessions than the agents': a DBA's statements in a shell, one by one and
//! in any order.

use super::rows::Stock;
use super::tables::{Effect, Lock, Patience, Step, TransactionId};
use super::{ModelDatabase, Rc};

/// An open transaction of a session other than the agents'.
#[derive(Debug)]
pub struct Shell(TransactionId);

/// A change by such a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Add units to a SKU row; remove them if negative.
    Restock {
        /// The SKU row.
        sku_id: i64,
        /// Number of units.
        units: i64,
    },
    /// Set the price of a SKU row.
    Price {
        /// The SKU row.
        sku_id: i64,
        /// The price in minor units.
        price: i64,
    },
}

/// Result of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// The change is made. Other transactions see it after the COMMIT.
    Done,
    /// Another transaction holds the row.
    Waits,
    /// The database refused the change and ended the transaction.
    Refused,
}

impl ModelDatabase {
    /// Begins a transaction. Returns `None` while the database does not answer.
    pub fn begin_shell(&self) -> Option<Shell> {
        let mut tables = self.tables.borrow_mut();
        (!tables.is_down()).then(|| Shell(tables.begin(Rc::new([]))))
    }

    /// Makes a change if its row is free.
    pub fn change(&self, Shell(id): &Shell, change: Change) -> Changed {
        let mut tables = self.tables.borrow_mut();
        if tables.is_down() || !tables.is_open(*id) {
            return Changed::Refused;
        }
        let lock = match change {
            Change::Restock { sku_id, .. } => Lock::Stock(sku_id),
            Change::Price { sku_id, .. } => Lock::Sku(sku_id),
        };
        match tables.lock(*id, [lock], Patience::Lock) {
            Ok(Step::Done(())) => {}
            Ok(Step::Waits) => return Changed::Waits,
            Err(_) => return Changed::Refused,
        }
        match change {
            Change::Restock { sku_id, units } => {
                let Some(Stock { initial, available, sold }) = tables.stock(*id, sku_id) else {
                    return Changed::Refused;
                };
                // The table has this rule as a CHECK.
                if available + units < 0 {
                    return Changed::Refused;
                }
                let stock = Stock { initial: initial + units, available: available + units, sold };
                tables.write(*id, |written| written.stock.extend([(sku_id, stock)]));
            }
            Change::Price { sku_id, price } => {
                tables.write(*id, |written| written.prices.extend([(sku_id, price)]));
            }
        }
        tables.tell(*id, Effect::Changed(change));
        Changed::Done
    }

    /// Commits the changes, or rolls them back.
    pub fn end_shell(&self, Shell(id): Shell, commits: bool) {
        let mut tables = self.tables.borrow_mut();
        if commits && !tables.is_down() {
            tables.commit(id);
        } else {
            tables.roll_back(id);
        }
    }
}
