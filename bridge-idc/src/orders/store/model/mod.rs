//! A model of a database at READ COMMITTED, for the simulation. The real flow that commits batches
//! runs on it.
//!
//! Each statement sees what was committed before it, and waits for the holder of a row that it
//! needs. Its future is pending once before it is done, and again for each wait, so that other
//! transactions run in between. The simulation polls the futures: it chooses which transaction runs
//! next, and sets the time.

/// Rows, locks and the uncommitted rows of open transactions.
mod tables;

/// Refused statements, as errors of a database driver.
mod refusal;

/// The statements of a batch's transaction.
mod statements;

/// The statements of payments.
mod payments;

/// Launches.
mod launches;

/// Reads outside any transaction.
mod questions;

/// Rows by column.
mod columns;

/// Transactions of other sessions than the agents'.
mod shell;

/// Rows by their primary keys.
mod rows;

/// The archive for restores.
mod archive;

/// Restores to an earlier moment.
mod restore;

/// Deliberate faults.
mod broken;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use uuid::Uuid;

pub use self::broken::Broken;
pub use self::columns::{
    LineColumns, ModelLaunch, OrderColumns, OutcomeColumns, PaymentColumns, RefundColumns, RequestColumns,
    StoredOrder,
};
use self::rows::{Rows, Stock};
pub use self::shell::{Change, Changed, Shell};
use self::tables::{Lock, Tables, TransactionId};
use super::memory::ForSale;
use super::{Batch, BatchEnd, bisect};
use crate::orders::planner::Awaited;

/// The end of a COMMIT in the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CommitFate {
    /// The COMMIT is done, and the client gets the reply.
    #[default]
    Done,
    /// The COMMIT is done, and the reply is lost.
    ReplyLost,
    /// The COMMIT is not done, and the reply is lost.
    Lost,
    /// The reply is lost, and the transaction is committed or rolled back later.
    Late,
}

/// Number of COMMITs by their end, including those that wrote nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// COMMITs with [`CommitFate::Done`].
    pub done: u64,
    /// COMMITs with [`CommitFate::ReplyLost`].
    pub reply_lost: u64,
    /// COMMITs with [`CommitFate::Lost`].
    pub lost: u64,
    /// COMMITs with [`CommitFate::Late`].
    pub late: u64,
}

/// An effect of a COMMIT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// An outcome under a key.
    Outcome {
        /// The row of the outcome.
        row: Rc<OutcomeColumns>,
        /// Number of changes by other sessions that were committed when its transaction began. All
        /// that the transaction read is at least that new.
        began_after: u64,
    },
    /// A change by a session other than the agents'.
    Changed(Change),
    /// The new state of a payment.
    Payment(Rc<PaymentColumns>),
    /// The new state of a refund.
    Refund(Rc<RefundColumns>),
}

/// A transaction of a session other than the agents', which holds a stock row.
#[derive(Debug)]
pub struct Holder(TransactionId);

/// One database that several agents share. A clone is another handle on the same rows.
#[derive(Debug, Clone)]
pub struct ModelDatabase {
    tables: Rc<RefCell<Tables>>,
    /// Keys of the batch that this handle commits, in the order of admission.
    admitted: Rc<[Vec<u8>]>,
}

impl ModelDatabase {
    /// Creates a database with this stock. SKU rows are numbered from 1. A statement waits for a
    /// held row for at most `lock_timeout`. A statement that does nothing else waits for at most
    /// `awaited_for`.
    pub fn new(
        stock: impl IntoIterator<Item = ForSale>,
        lock_timeout: Duration,
        awaited_for: Duration,
    ) -> Self {
        let mut tables = Tables::default();
        tables.patience = [lock_timeout, awaited_for];
        for (sku_id, ForSale { brand, sku, price, units }) in (1..).zip(stock) {
            let brand = brand.as_str().to_owned();
            tables.skus.insert((brand.clone(), sku.as_str().to_owned()), sku_id);
            tables.committed.prices.insert(sku_id, price.amount());
            tables.brands.insert(brand, price.currency().to_string());
            tables.committed.stock.insert(sku_id, Stock { initial: units, available: units, sold: 0 });
        }
        Self { tables: Rc::new(RefCell::new(tables)), admitted: Rc::new([]) }
    }

    /// Commits a batch as [`Ledger::commit`](super::Ledger::commit) does.
    pub async fn commit(&self, batch: &Batch, awaited: Option<&Awaited>) -> BatchEnd {
        let admitted = batch.requests.iter().map(|request| request.key.as_bytes().to_vec()).collect();
        let database = Self { tables: self.tables.clone(), admitted };
        bisect::commit(&database, batch, awaited).await
    }

    /// Sets the time. `fate` is the end of a COMMIT that runs now. `cancels` makes a statement that
    /// runs now fail as cancelled.
    pub fn set_now(&self, now: Duration, fate: CommitFate, cancels: bool) {
        let mut tables = self.tables.borrow_mut();
        (tables.now, tables.fate, tables.cancels, tables.waited) = (now, fate, cancels, false);
        tables.pauses_until = None;
    }

    /// Ends the COMMITs with [`CommitFate::Late`]: commits them or rolls them back.
    pub fn end_late(&self, commits: bool) {
        self.tables.borrow_mut().end_left(commits);
    }

    /// Returns true if a statement has waited for a row since the last [`Self::set_now`].
    pub fn waited(&self) -> bool {
        self.tables.borrow().waited
    }

    /// Returns the end of a pause that began since the last [`Self::set_now`].
    pub fn pauses_until(&self) -> Option<Duration> {
        self.tables.borrow().pauses_until
    }

    /// Adds a deliberate fault to payments.
    pub fn break_payments(&self, broken: Broken) {
        self.tables.borrow_mut().broken = broken;
    }

    /// Returns every payment.
    pub fn payments(&self) -> Vec<Rc<PaymentColumns>> {
        self.tables.borrow().committed.payments.values().cloned().collect()
    }

    /// Returns a payment by its id.
    pub fn payment_row(&self, payment: &Uuid) -> Option<Rc<PaymentColumns>> {
        self.tables.borrow().committed.payments.get(payment).cloned()
    }

    /// Returns every request for a payment or a refund, by its key.
    pub fn requests(&self) -> BTreeMap<Vec<u8>, Rc<RequestColumns>> {
        self.tables.borrow().committed.requests.clone()
    }

    /// Returns every refund.
    pub fn refunds(&self) -> Vec<Rc<RefundColumns>> {
        self.tables.borrow().committed.refunds.values().cloned().collect()
    }

    /// Returns the state of an order that was placed.
    pub fn state_of(&self, order: &Uuid) -> Option<&'static str> {
        self.tables.borrow().committed.states.get(order).copied()
    }

    /// Returns the time at which the next payment or refund is due, by the clock of
    /// [`Self::set_now`].
    pub fn next_due(&self) -> Option<Duration> {
        let Rows { payments, refunds, .. } = &self.tables.borrow().committed;
        let looks = self.tables.borrow().broken != Broken::LooksAtNothing;
        let payments = payments.values().filter_map(|row| row.next_ask_at.or(row.look_at.filter(|_| looks)));
        let refunds = refunds.values().filter_map(|row| row.next_ask_at.or(row.look_at));
        let next = payments.chain(refunds).min()?;
        Some(Duration::from_micros(u64::try_from(next).unwrap_or(0)))
    }

    /// Returns the number of COMMITs by their end.
    pub fn ends(&self) -> Ends {
        self.tables.borrow().ends
    }

    /// Adds a deliberate fault to cancellations: an order that does not exist yet reads as one
    /// without units.
    pub fn mislead(&self) {
        self.tables.borrow_mut().misleads = true;
    }

    /// Ends all open transactions. The database does not answer before `until`.
    pub fn go_away(&self, until: Duration) {
        let mut tables = self.tables.borrow_mut();
        tables.roll_back_all();
        tables.down_until = until;
    }

    /// Decides if a COMMIT under way is committed when its client goes away.
    pub fn set_commits_orphans(&self, commits: bool) {
        self.tables.borrow_mut().commits_orphans = commits;
    }

    /// Holds a stock row, as `SELECT ... FOR UPDATE` in a shell does. Returns `None` if another
    /// session holds it already.
    pub fn hold(&self, sku_id: i64) -> Option<Holder> {
        let mut tables = self.tables.borrow_mut();
        let id = tables.begin(self.admitted.clone());
        if tables.try_lock(id, Lock::Stock(sku_id)) {
            return Some(Holder(id));
        }
        tables.roll_back(id);
        None
    }

    /// Releases a held row.
    pub fn let_go(&self, Holder(id): Holder) {
        self.tables.borrow_mut().roll_back(id);
    }

    /// Breaks promise P1 from now on: committed rows are durable only after
    /// [`ModelDatabase::sync`].
    pub fn acknowledge_before_commit(&self) {
        let mut tables = self.tables.borrow_mut();
        tables.durable = Some(Box::new(tables.committed.clone()));
    }

    /// Makes all committed rows durable.
    pub fn sync(&self) {
        let mut tables = self.tables.borrow_mut();
        if tables.durable.is_some() {
            tables.durable = Some(Box::new(tables.committed.clone()));
        }
    }

    /// Loses all rows that are not durable.
    pub fn crash(&self) {
        let mut tables = self.tables.borrow_mut();
        if let Some(durable) = tables.durable.clone() {
            tables.committed = *durable;
        }
    }

    /// Returns the effects committed since the last call. Outcomes are in the order in which they
    /// were decided.
    pub fn take_effects(&self) -> Vec<Effect> {
        let mut tables = self.tables.borrow_mut();
        let effects = std::mem::take(&mut tables.effects);
        let read = |effect| match effect {
            tables::Effect::Changed(change) => Some(Effect::Changed(change)),
            tables::Effect::Payment(row) => Some(Effect::Payment(row)),
            tables::Effect::Refund(row) => Some(Effect::Refund(row)),
            tables::Effect::Outcome(key, began_after) => {
                Some(Effect::Outcome { row: tables.committed.outcomes.get(&key)?.clone(), began_after })
            }
        };
        effects.into_iter().filter_map(read).collect()
    }

    /// Returns the number of statements that failed because of a deadlock, and because of a lock
    /// time-out.
    pub fn refusals(&self) -> (u64, u64) {
        let tables = self.tables.borrow();
        (tables.deadlocks, tables.lock_timeouts)
    }

    /// Breaks promise P3: a batch takes no locks, and overwrites stock with values computed from
    /// what it read.
    pub fn overwrite_stock(&self) {
        self.tables.borrow_mut().overwrites = true;
    }

    /// Returns every outcome.
    pub fn outcomes(&self) -> Vec<Rc<OutcomeColumns>> {
        self.tables.borrow().committed.outcomes.values().cloned().collect()
    }

    /// Returns every order that was placed.
    pub fn orders(&self) -> Vec<StoredOrder> {
        let Rows { states, orders, lines, personal, .. } = &self.tables.borrow().committed;
        let order = |(order, state): (&Uuid, &&'static str)| StoredOrder {
            order: *order,
            state,
            columns: orders.get(order).cloned(),
            lines: lines.get(order).cloned().unwrap_or_default(),
            personal: personal.get(order).cloned(),
        };
        states.iter().map(order).collect()
    }

    /// Returns the available units of each SKU row.
    pub fn available(&self) -> BTreeMap<i64, i64> {
        let stock = &self.tables.borrow().committed.stock;
        stock.iter().map(|(sku_id, stock)| (*sku_id, stock.available)).collect()
    }

    /// Returns the SKU of a row.
    pub fn sku(&self, sku_id: i64) -> Option<String> {
        let skus = &self.tables.borrow().skus;
        skus.iter().find(|(_, known)| **known == sku_id).map(|((_, sku), _)| sku.clone())
    }

    /// Checks the numbers of launches, and promise P3: for every SKU,
    /// `initial = available + sold`, and placed orders have
    /// exactly the sold units.
    ///
    /// # Errors
    ///
    /// Fails with a sentence that names the SKU row and its numbers.
    pub fn invariants(&self) -> Result<(), String> {
        let Rows { stock, states, lines, .. } = &self.tables.borrow().committed;
        let mut held: BTreeMap<i64, i64> = BTreeMap::new();
        for (order, _) in states.iter().filter(|(_, state)| **state == "placed") {
            for line in lines.get(order).into_iter().flatten() {
                *held.entry(line.sku_id).or_default() += line.quantity;
            }
        }
        for (sku_id, Stock { initial, available, sold }) in stock {
            let held = held.get(sku_id).copied().unwrap_or_default();
            if *available < 0 || *initial != available + sold || *sold != held {
                return Err(format!(
                    "SKU row {sku_id}: initial {initial}, available {available}, sold {sold}, in orders {held}"
                ));
            }
        }
        self.check_launches()
    }
}

#[cfg(test)]
mod tests;
