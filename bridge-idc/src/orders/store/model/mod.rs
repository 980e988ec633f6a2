//! A model of a database at READ COMMITTED, for the simulation: the flow that commits runs on it as on a real one.
//!
//! Each statement sees what was committed before it, and waits for whoever holds a row that it wants. Its future is
//! pending once before it is done, and again as often as it has to wait: other transactions go on meanwhile. Whoever
//! polls decides who is next, and tells the time.

/// Rows, locks and what open transactions wrote.
mod tables;

/// What the model refuses, as a driver says it.
mod refusal;

/// The statements of a transaction.
mod statements;

/// The statements of payments.
mod payments;

/// Questions outside any transaction.
mod questions;

/// Rows, as their columns have them.
mod columns;

/// Somebody beside the agents.
mod shell;

/// Rows by their keys.
mod rows;

/// What a restore needs.
mod archive;

/// Restores.
mod restore;

/// What is broken on purpose.
mod broken;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use uuid::Uuid;

pub use self::broken::Broken;
pub use self::columns::{
    LineColumns, OrderColumns, OutcomeColumns, PaymentColumns, RefundColumns, RequestColumns, StoredOrder,
};
use self::rows::{Rows, Stock};
pub use self::shell::{Change, Changed, Shell};
use self::tables::{Lock, Tables, TransactionId};
use super::memory::ForSale;
use super::{Batch, BatchEnd, bisect};
use crate::orders::planner::Awaited;

/// How the model ends a COMMIT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CommitFate {
    /// Committed, and it says so.
    #[default]
    Done,
    /// Committed, and nobody hears of it.
    ReplyLost,
    /// Not committed, and nobody hears of it.
    Lost,
    /// Neither yet, and nobody hears of it: it is committed or rolled back later.
    Late,
}

/// How many COMMITs ended in each way, those that wrote nothing included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// See [`CommitFate::Done`].
    pub done: u64,
    /// See [`CommitFate::ReplyLost`].
    pub reply_lost: u64,
    /// See [`CommitFate::Lost`].
    pub lost: u64,
    /// See [`CommitFate::Late`].
    pub late: u64,
}

/// What a COMMIT made durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// What is settled under a key.
    Outcome {
        /// Its row.
        row: Rc<OutcomeColumns>,
        /// Changes of others that were committed when its transaction began: what it read is as new as that, or newer.
        began_after: u64,
    },
    /// What somebody beside the agents changed.
    Changed(Change),
    /// How a payment stands.
    Payment(Rc<PaymentColumns>),
    /// How a refund stands.
    Refund(Rc<RefundColumns>),
}

/// A transaction of somebody beside the agents, who holds a stock row.
#[derive(Debug)]
pub struct Holder(TransactionId);

/// One database that several agents share. A clone is another handle on the same rows.
#[derive(Debug, Clone)]
pub struct ModelDatabase {
    tables: Rc<RefCell<Tables>>,
    /// The keys of the batch that this handle commits, in the order in which they were admitted.
    admitted: Rc<[Vec<u8>]>,
}

impl ModelDatabase {
    /// A database with this stock, whose rows are numbered from 1. A statement waits for a row as long as `lock_timeout`;
    /// one that does nothing but wait for one, as long as `awaited_for`.
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

    /// Commits a batch, as [`Ledger::commit`](super::Ledger::commit) does.
    pub async fn commit(&self, batch: &Batch, awaited: Option<&Awaited>) -> BatchEnd {
        let admitted = batch.requests.iter().map(|request| request.key.as_bytes().to_vec()).collect();
        let database = Self { tables: self.tables.clone(), admitted };
        bisect::commit(&database, batch, awaited).await
    }

    /// Tells the time, and what becomes of a statement and a COMMIT that are reached now.
    pub fn set_now(&self, now: Duration, fate: CommitFate, cancels: bool) {
        let mut tables = self.tables.borrow_mut();
        (tables.now, tables.fate, tables.cancels, tables.waited) = (now, fate, cancels, false);
        tables.pauses_until = None;
    }

    /// Ends the COMMITs that are late.
    pub fn end_late(&self, commits: bool) {
        self.tables.borrow_mut().end_left(commits);
    }

    /// Whether a statement waited for a row since the time was last told.
    pub fn waited(&self) -> bool {
        self.tables.borrow().waited
    }

    /// Until when somebody pauses who was polled since the time was last told.
    pub fn pauses_until(&self) -> Option<Duration> {
        self.tables.borrow().pauses_until
    }

    /// Breaks something of payments.
    pub fn break_payments(&self, broken: Broken) {
        self.tables.borrow_mut().broken = broken;
    }

    /// Every payment.
    pub fn payments(&self) -> Vec<Rc<PaymentColumns>> {
        self.tables.borrow().committed.payments.values().cloned().collect()
    }

    /// A payment by its id.
    pub fn payment_row(&self, payment: &Uuid) -> Option<Rc<PaymentColumns>> {
        self.tables.borrow().committed.payments.get(payment).cloned()
    }

    /// Every request for a payment or a refund, by its key.
    pub fn requests(&self) -> BTreeMap<Vec<u8>, Rc<RequestColumns>> {
        self.tables.borrow().committed.requests.clone()
    }

    /// Every refund.
    pub fn refunds(&self) -> Vec<Rc<RefundColumns>> {
        self.tables.borrow().committed.refunds.values().cloned().collect()
    }

    /// How an order that was placed stands.
    pub fn state_of(&self, order: &Uuid) -> Option<&'static str> {
        self.tables.borrow().committed.states.get(order).copied()
    }

    /// When the next payment or refund is due, by the clock that whoever polls tells.
    pub fn next_due(&self) -> Option<Duration> {
        let Rows { payments, refunds, .. } = &self.tables.borrow().committed;
        let looks = self.tables.borrow().broken != Broken::LooksAtNothing;
        let payments = payments.values().filter_map(|row| row.next_ask_at.or(row.look_at.filter(|_| looks)));
        let refunds = refunds.values().filter_map(|row| row.next_ask_at.or(row.look_at));
        let next = payments.chain(refunds).min()?;
        Some(Duration::from_micros(u64::try_from(next).unwrap_or(0)))
    }

    /// How many COMMITs ended in each way.
    pub fn ends(&self) -> Ends {
        self.tables.borrow().ends
    }

    /// Breaks what a cancellation relies on: an order that is not there yet reads as if it had allocated nothing.
    pub fn mislead(&self) {
        self.tables.borrow_mut().misleads = true;
    }

    /// Ends all open transactions and answers nobody before `until`.
    pub fn go_away(&self, until: Duration) {
        let mut tables = self.tables.borrow_mut();
        tables.roll_back_all();
        tables.down_until = until;
    }

    /// Whether a COMMIT that is under way is done although its client goes away.
    pub fn set_commits_orphans(&self, commits: bool) {
        self.tables.borrow_mut().commits_orphans = commits;
    }

    /// Holds a stock row, as `SELECT ... FOR UPDATE` in a shell does; `None` if somebody holds it already.
    pub fn hold(&self, sku_id: i64) -> Option<Holder> {
        let mut tables = self.tables.borrow_mut();
        let id = tables.begin(self.admitted.clone());
        if tables.try_lock(id, Lock::Stock(sku_id)) {
            return Some(Holder(id));
        }
        tables.roll_back(id);
        None
    }

    /// Lets a held row go.
    pub fn let_go(&self, Holder(id): Holder) {
        self.tables.borrow_mut().roll_back(id);
    }

    /// Breaks promise P1 from here on: what is committed is durable only once [`ModelDatabase::sync`] says so.
    pub fn acknowledge_before_commit(&self) {
        let mut tables = self.tables.borrow_mut();
        tables.durable = Some(Box::new(tables.committed.clone()));
    }

    /// Makes everything durable that was acknowledged.
    pub fn sync(&self) {
        let mut tables = self.tables.borrow_mut();
        if tables.durable.is_some() {
            tables.durable = Some(Box::new(tables.committed.clone()));
        }
    }

    /// Forgets what is not durable.
    pub fn crash(&self) {
        let mut tables = self.tables.borrow_mut();
        if let Some(durable) = tables.durable.clone() {
            tables.committed = *durable;
        }
    }

    /// What was committed since this was last asked, outcomes in the order in which they were decided.
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

    /// How many statements were refused since they would have closed a circle, and since they waited for too long.
    pub fn refusals(&self) -> (u64, u64) {
        let tables = self.tables.borrow();
        (tables.deadlocks, tables.lock_timeouts)
    }

    /// Breaks promise P3: a batch writes over stock what it has read of it, and locks nothing.
    pub fn overwrite_stock(&self) {
        self.tables.borrow_mut().overwrites = true;
    }

    /// Every outcome.
    pub fn outcomes(&self) -> Vec<Rc<OutcomeColumns>> {
        self.tables.borrow().committed.outcomes.values().cloned().collect()
    }

    /// Every order that was placed.
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

    /// The units available of each SKU's row.
    pub fn available(&self) -> BTreeMap<i64, i64> {
        let stock = &self.tables.borrow().committed.stock;
        stock.iter().map(|(sku_id, stock)| (*sku_id, stock.available)).collect()
    }

    /// The SKU of a row.
    pub fn sku(&self, sku_id: i64) -> Option<String> {
        let skus = &self.tables.borrow().skus;
        skus.iter().find(|(_, known)| **known == sku_id).map(|((_, sku), _)| sku.clone())
    }

    /// Checks P3: for every SKU, initial stock = available + sold, and what is sold is what placed orders hold.
    ///
    /// # Errors
    /// What does not add up.
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
        Ok(())
    }
}

#[cfg(test)]
mod tests;
