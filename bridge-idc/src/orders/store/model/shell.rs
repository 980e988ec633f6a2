//! Somebody beside the agents: a DBA's transaction in a shell, statement by statement, in whatever order they like.

use super::rows::Stock;
use super::tables::{Effect, Lock, Patience, Step, TransactionId};
use super::{ModelDatabase, Rc};

/// An open transaction of somebody beside the agents.
#[derive(Debug)]
pub struct Shell(TransactionId);

/// What they change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// So many units more of a SKU's row, or less.
    Restock {
        /// Which row.
        sku_id: i64,
        /// How many.
        units: i64,
    },
    /// Another price of a SKU's row.
    Price {
        /// Which row.
        sku_id: i64,
        /// Minor units.
        price: i64,
    },
}

/// How far a change came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It is made, and others see it after the COMMIT.
    Done,
    /// Somebody else holds the row.
    Waits,
    /// The database refuses it, and the transaction with it.
    Refused,
}

impl ModelDatabase {
    /// Begins a transaction; `None` while the database does not answer.
    pub fn begin_shell(&self) -> Option<Shell> {
        let mut tables = self.tables.borrow_mut();
        (!tables.is_down()).then(|| Shell(tables.begin(Rc::new([]))))
    }

    /// Makes a change, once its row is free.
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
                // A CHECK of the table.
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

    /// Commits what was changed, or rolls it back.
    pub fn end_shell(&self, Shell(id): Shell, commits: bool) {
        let mut tables = self.tables.borrow_mut();
        if commits && !tables.is_down() {
            tables.commit(id);
        } else {
            tables.roll_back(id);
        }
    }
}
