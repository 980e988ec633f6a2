//! Rows of the model, the uncommitted rows of each open transaction, and the holder of each lock.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use uuid::Uuid;

use super::archive::Archive;
use super::broken::Broken;
use super::refusal::Refusal;
use super::rows::{Rows, Stock};
use super::{
    Change, CommitFate, Ends, LineColumns, ModelLaunch, OutcomeColumns, PaymentColumns, RefundColumns,
    RequestColumns,
};

/// Id of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TransactionId(u64);

/// A row, or a value of a unique index, that a transaction can lock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lock {
    Stock(i64),
    Launch(i64),
    /// A SKU with its price.
    Sku(i64),
    Key(Vec<u8>),
    /// The unique index of orders that were placed or rejected.
    Placed(Uuid),
    Order(Uuid),
    Payment(Uuid),
    Refund(Uuid),
    Request(Vec<u8>),
}

/// An effect of a COMMIT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// The outcome under this key, and the number of changes by other sessions before its
    /// transaction began.
    Outcome(Vec<u8>, u64),
    /// A change by a session other than the agents'.
    Changed(Change),
    /// The new state of a payment.
    Payment(Rc<PaymentColumns>),
    /// The new state of a refund.
    Refund(Rc<RefundColumns>),
}

/// An open transaction.
#[derive(Debug)]
struct Open {
    written: Rows,
    /// Number of changes that were committed when it began.
    began_after: u64,
    /// Changes of the transaction, if it belongs to a session other than the agents'.
    changes: Vec<Effect>,
    /// Keys of the transaction's batch, in the order in which they are decided.
    admitted: Rc<[Vec<u8>]>,
    orphan: Orphan,
}

/// The fate of a transaction whose client goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Orphan {
    /// The transaction is rolled back.
    Open,
    /// The COMMIT is under way and is either done or not.
    Committing,
    /// The COMMIT was left undone, and is ended later by [`Tables::end_left`].
    Left,
}

/// The time-out of a statement that waits for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    Lock,
    Awaited,
}

/// Progress of a statement.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<V> {
    Done(V),
    /// Another transaction holds a row that it needs.
    Waits,
}

/// The database.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// Present time, set by the simulation.
    pub(super) now: Duration,
    /// Time-outs for a held row, by [`Patience`].
    pub(super) patience: [Duration; 2],
    /// The database does not answer before this time.
    pub(super) down_until: Duration,
    /// The end of a COMMIT that runs now.
    pub(super) fate: CommitFate,
    /// True if a statement that runs now fails as cancelled.
    pub(super) cancels: bool,
    /// True if an order that does not exist reads as one without units.
    pub(super) misleads: bool,
    /// True if batches take no locks and overwrite stock with values computed from what they read.
    pub(super) overwrites: bool,
    /// True if a statement has waited for a row since the time was last set.
    pub(super) waited: bool,
    /// The end of a pause that began since the time was last set.
    pub(super) pauses_until: Option<Duration>,
    /// The deliberate fault in payments.
    pub(super) broken: Broken,
    /// Number of COMMITs by their end.
    pub(super) ends: Ends,
    /// True if a COMMIT under way is committed when its client goes away.
    pub(super) commits_orphans: bool,
    /// Currency of each brand.
    pub(super) brands: BTreeMap<String, String>,
    /// Launches by their rows.
    pub(super) launches: BTreeMap<i64, ModelLaunch>,
    /// True if units that a customer bought from a launch before are forgotten.
    pub(super) forgets_purchases: bool,
    /// Row of each SKU, by brand and SKU.
    pub(super) skus: BTreeMap<(String, String), i64>,
    pub(super) committed: Rows,
    /// Durable rows, which a crash leaves. `None` if all committed rows are durable.
    pub(super) durable: Option<Box<Rows>>,
    /// The archive, if the simulation makes restores.
    pub(super) archive: Option<Archive>,
    open: BTreeMap<TransactionId, Open>,
    locks: BTreeMap<Lock, TransactionId>,
    /// The transaction that each waiting transaction waits for, and the start of the wait.
    waits: BTreeMap<TransactionId, (TransactionId, Duration)>,
    begun: u64,
    last_position: i64,
    /// Effects committed since the last
    /// [`ModelDatabase::take_effects`](super::ModelDatabase::take_effects).
    pub(super) effects: Vec<Effect>,
    /// Number of committed changes by sessions other than the agents'.
    changes: u64,
    pub(super) deadlocks: u64,
    pub(super) lock_timeouts: u64,
}

impl Tables {
    pub(super) fn is_down(&self) -> bool {
        self.now < self.down_until
    }

    pub(super) fn begin(&mut self, admitted: Rc<[Vec<u8>]>) -> TransactionId {
        self.begun += 1;
        let id = TransactionId(self.begun);
        let (written, began_after) = (Rows::default(), self.changes);
        let open = Open { written, began_after, changes: Vec::new(), admitted, orphan: Orphan::Open };
        self.open.insert(id, open);
        id
    }

    pub(super) fn is_open(&self, id: TransactionId) -> bool {
        self.open.contains_key(&id)
    }

    /// Commits a transaction and releases its locks.
    pub(super) fn commit(&mut self, id: TransactionId) {
        if let Some(open) = self.open.remove(&id) {
            // A key that is in a batch twice is decided at its first place.
            let mut told = BTreeSet::new();
            for key in open.admitted.iter().filter(|key| open.written.outcomes.contains_key(*key)) {
                if told.insert(key) {
                    self.effects.push(Effect::Outcome(key.clone(), open.began_after));
                }
            }
            self.effects.extend(open.written.payments.values().cloned().map(Effect::Payment));
            self.effects.extend(open.written.refunds.values().cloned().map(Effect::Refund));
            self.changes += open.changes.len() as u64;
            self.effects.extend(open.changes);
            if let Some(archive) = &mut self.archive {
                archive.add(self.now, open.written.clone(), self.changes);
            }
            self.committed.take(open.written);
        }
        self.let_go(id);
    }

    /// Notes an effect that comes true when the transaction commits.
    pub(super) fn tell(&mut self, id: TransactionId, effect: Effect) {
        if let Some(open) = self.open.get_mut(&id) {
            open.changes.push(effect);
        }
    }

    pub(super) fn roll_back(&mut self, id: TransactionId) {
        self.open.remove(&id);
        self.let_go(id);
    }

    /// Rolls all open transactions back, as the end of the server does.
    pub(super) fn roll_back_all(&mut self) {
        for id in Vec::from_iter(self.open.keys().copied()) {
            self.roll_back(id);
        }
    }

    pub(super) fn set_committing(&mut self, id: TransactionId) {
        self.set_orphan(id, Orphan::Committing);
    }

    /// Leaves a COMMIT undone although its client has heard that it failed. The transaction keeps
    /// its locks until [`Self::end_left`].
    pub(super) fn leave(&mut self, id: TransactionId) {
        self.set_orphan(id, Orphan::Left);
    }

    fn set_orphan(&mut self, id: TransactionId, orphan: Orphan) {
        if let Some(open) = self.open.get_mut(&id) {
            open.orphan = orphan;
        }
    }

    pub(super) fn orphan_of(&self, id: TransactionId) -> Orphan {
        self.open.get(&id).map_or(Orphan::Open, |open| open.orphan)
    }

    /// Ends every transaction that was left undone.
    pub(super) fn end_left(&mut self, commits: bool) {
        let left = self.open.iter().filter(|(_, open)| open.orphan == Orphan::Left);
        for id in Vec::from_iter(left.map(|(id, _)| *id)) {
            if commits {
                self.commit(id);
            } else {
                self.roll_back(id);
            }
        }
    }

    pub(super) fn ended(&mut self, fate: CommitFate) {
        *match fate {
            CommitFate::Done => &mut self.ends.done,
            CommitFate::ReplyLost => &mut self.ends.reply_lost,
            CommitFate::Lost => &mut self.ends.lost,
            CommitFate::Late => &mut self.ends.late,
        } += 1;
    }

    fn let_go(&mut self, id: TransactionId) {
        self.locks.retain(|_, holder| *holder != id);
        self.waits.remove(&id);
    }

    /// Takes locks in the given order until one is held by another transaction. Locks that it has
    /// taken are kept during the wait.
    pub(super) fn lock(
        &mut self,
        id: TransactionId,
        locks: impl IntoIterator<Item = Lock>,
        patience: Patience,
    ) -> Result<Step<()>, Refusal> {
        for lock in locks {
            let holder = *self.locks.entry(lock).or_insert(id);
            if holder != id {
                return self.wait(id, holder, patience);
            }
        }
        self.waits.remove(&id);
        Ok(Step::Done(()))
    }

    /// Takes a lock if it is free. Returns true if the transaction has it.
    pub(super) fn try_lock(&mut self, id: TransactionId, lock: Lock) -> bool {
        *self.locks.entry(lock).or_insert(id) == id
    }

    fn wait(
        &mut self,
        id: TransactionId,
        holder: TransactionId,
        patience: Patience,
    ) -> Result<Step<()>, Refusal> {
        self.waited = true;
        let (_, since) = *self.waits.entry(id).or_insert((holder, self.now));
        self.waits.insert(id, (holder, since));
        let refusal = if self.is_waited_for_by(id, holder) {
            Some(Refusal::Deadlock)
        } else if self.now >= since + self.patience[patience as usize] {
            Some(Refusal::LockTimeout)
        } else {
            None
        };
        match refusal {
            Some(refusal) => {
                self.deadlocks += u64::from(refusal == Refusal::Deadlock);
                self.lock_timeouts += u64::from(refusal == Refusal::LockTimeout);
                self.waits.remove(&id);
                Err(refusal)
            }
            None => Ok(Step::Waits),
        }
    }

    /// Returns true if `holder` waits for `id`, directly or through others.
    fn is_waited_for_by(&self, id: TransactionId, holder: TransactionId) -> bool {
        let mut seen = BTreeSet::new();
        let mut next = Some(holder);
        while let Some(waiting) = next {
            if waiting == id {
                return true;
            }
            next = self.waits.get(&waiting).map(|(holder, _)| *holder).filter(|_| seen.insert(waiting));
        }
        false
    }

    pub(super) fn stock(&self, id: TransactionId, sku_id: i64) -> Option<Stock> {
        let own = self.written(id).and_then(|written| written.stock.get(&sku_id));
        own.or_else(|| self.committed.stock.get(&sku_id)).copied()
    }

    pub(super) fn price(&self, id: TransactionId, sku_id: i64) -> Option<i64> {
        let own = self.written(id).and_then(|written| written.prices.get(&sku_id));
        own.or_else(|| self.committed.prices.get(&sku_id)).copied()
    }

    pub(super) fn outcome(&self, id: TransactionId, key: &[u8]) -> Option<&Rc<OutcomeColumns>> {
        let own = self.written(id).and_then(|written| written.outcomes.get(key));
        own.or_else(|| self.committed.outcomes.get(key))
    }

    /// Returns the outcome that placed or rejected an order.
    pub(super) fn placing(&self, id: TransactionId, order: &Uuid) -> Option<&Rc<OutcomeColumns>> {
        let own = self.written(id).and_then(|written| written.placed.get(order));
        let key = own.or_else(|| self.committed.placed.get(order))?;
        self.outcome(id, key)
    }

    /// Returns the state of an order that was placed.
    pub(super) fn state(&self, id: TransactionId, order: &Uuid) -> Option<&'static str> {
        let own = self.written(id).and_then(|written| written.states.get(order));
        own.or_else(|| self.committed.states.get(order)).copied()
    }

    pub(super) fn lines(&self, id: TransactionId, order: &Uuid) -> &[LineColumns] {
        let own = self.written(id).and_then(|written| written.lines.get(order));
        own.or_else(|| self.committed.lines.get(order)).map_or(&[], Vec::as_slice)
    }

    /// Returns the time of the database's clock in microseconds.
    pub(super) fn clock(&self) -> i64 {
        i64::try_from(self.now.as_micros()).unwrap_or(i64::MAX)
    }

    pub(super) fn payment(&self, id: TransactionId, payment: Uuid) -> Option<Rc<PaymentColumns>> {
        let own = self.written(id).and_then(|written| written.payments.get(&payment));
        own.or_else(|| self.committed.payments.get(&payment)).cloned()
    }

    /// Returns the payments that satisfy `is_so`, as a transaction sees them.
    pub(super) fn payments(
        &self,
        id: TransactionId,
        is_so: impl Fn(&PaymentColumns) -> bool,
    ) -> Vec<Rc<PaymentColumns>> {
        seen(&self.committed.payments, self.written(id).map(|written| &written.payments), |row| is_so(row))
    }

    /// Returns the refunds that satisfy `is_so`, as a transaction sees them.
    pub(super) fn refunds(
        &self,
        id: TransactionId,
        is_so: impl Fn(&RefundColumns) -> bool,
    ) -> Vec<Rc<RefundColumns>> {
        seen(&self.committed.refunds, self.written(id).map(|written| &written.refunds), |row| is_so(row))
    }

    pub(super) fn request(&self, id: TransactionId, key: &[u8]) -> Option<&RequestColumns> {
        let own = self.written(id).and_then(|written| written.requests.get(key));
        own.or_else(|| self.committed.requests.get(key)).map(Rc::as_ref)
    }

    /// Returns the key of the request for a payment, or for a refund of it.
    pub(super) fn key_of(&self, id: TransactionId, payment: Uuid, refund: Option<Uuid>) -> Option<Vec<u8>> {
        let own = self.written(id).into_iter().flat_map(|written| &written.requests);
        let mut all = own.chain(&self.committed.requests);
        let found = all.find(|(_, request)| (request.payment, request.refund) == (payment, refund));
        found.map(|(key, _)| key.clone())
    }

    fn written(&self, id: TransactionId) -> Option<&Rows> {
        self.open.get(&id).map(|open| &open.written)
    }

    /// Changes the rows of a transaction. Does nothing for a transaction that the server has ended.
    pub(super) fn write(&mut self, id: TransactionId, write: impl FnOnce(&mut Rows)) {
        if let Some(open) = self.open.get_mut(&id) {
            write(&mut open.written);
        }
    }

    /// Continues from restored rows.
    pub(super) fn go_on_from(&mut self, rows: Rows, changes: u64, last_position: i64) {
        (self.committed, self.changes, self.last_position) = (rows, changes, last_position);
    }

    /// Returns the ledger's next position. Positions of rolled-back transactions leave gaps.
    pub(super) fn next_position(&mut self) -> i64 {
        self.last_position += 1;
        self.last_position
    }
}

/// Returns the rows that satisfy `is_so`. Rows that the transaction wrote hide the committed ones.
fn seen<R>(
    committed: &BTreeMap<Uuid, Rc<R>>,
    written: Option<&BTreeMap<Uuid, Rc<R>>>,
    is_so: impl Fn(&R) -> bool,
) -> Vec<Rc<R>> {
    let is_own = |id: &Uuid| written.is_some_and(|written| written.contains_key(id));
    let others = committed.iter().filter(|(id, _)| !is_own(id)).map(|(_, row)| row);
    let own = written.into_iter().flat_map(BTreeMap::values);
    others.chain(own).filter(|row| is_so(row)).cloned().collect()
}
