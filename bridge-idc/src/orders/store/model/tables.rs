//! The model's rows, what each open transaction has written, and who holds which row.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use uuid::Uuid;

use super::archive::Archive;
use super::broken::Broken;
use super::refusal::Refusal;
use super::rows::{Rows, Stock};
use super::{
    Change, CommitFate, Ends, LineColumns, OutcomeColumns, PaymentColumns, RefundColumns, RequestColumns,
};

/// An open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TransactionId(u64);

/// A row, or a value of a unique index, that a transaction can hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lock {
    Stock(i64),
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

/// What a COMMIT made durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// The outcome under a key, of a transaction that began after so many changes.
    Outcome(Vec<u8>, u64),
    /// A change of somebody beside the agents.
    Changed(Change),
    /// How a payment stands.
    Payment(Rc<PaymentColumns>),
    /// How a refund stands.
    Refund(Rc<RefundColumns>),
}

/// What a transaction has written, and whether its COMMIT is under way.
#[derive(Debug)]
struct Open {
    written: Rows,
    /// Changes that were committed when it began.
    began_after: u64,
    /// Its changes, if it is of somebody beside the agents.
    changes: Vec<Effect>,
    /// The keys of its batch, in the order in which they are decided.
    admitted: Rc<[Vec<u8>]>,
    orphan: Orphan,
}

/// What becomes of a transaction whose client goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Orphan {
    /// It is rolled back.
    Open,
    /// Its COMMIT is under way: it is done or not.
    Committing,
    /// Its COMMIT is not done yet, and will be or not.
    Left,
}

/// For how long a statement waits for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    Lock,
    Awaited,
}

/// How far a statement came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<V> {
    Done(V),
    /// Another transaction holds a row that it wants.
    Waits,
}

/// The database.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// By whoever polls.
    pub(super) now: Duration,
    /// How long a statement waits for a row: any statement, and one that only waits.
    pub(super) patience: [Duration; 2],
    /// It does not answer before this moment.
    pub(super) down_until: Duration,
    /// How a COMMIT ends that is reached now.
    pub(super) fate: CommitFate,
    /// Whether a statement that is reached now is cancelled by somebody.
    pub(super) cancels: bool,
    /// Whether an order that is not there reads as if it had allocated nothing.
    pub(super) misleads: bool,
    /// Whether batches write over stock what they have read of it, and lock nothing.
    pub(super) overwrites: bool,
    /// Whether a statement waited for a row since the time was last told.
    pub(super) waited: bool,
    /// Until when somebody pauses who was polled since the time was last told.
    pub(super) pauses_until: Option<Duration>,
    /// What of payments is broken on purpose.
    pub(super) broken: Broken,
    /// How many COMMITs ended in each way.
    pub(super) ends: Ends,
    /// Whether a COMMIT that is under way is done although its client goes away.
    pub(super) commits_orphans: bool,
    /// Brands and their currencies.
    pub(super) brands: BTreeMap<String, String>,
    /// The row of each SKU, by brand and SKU.
    pub(super) skus: BTreeMap<(String, String), i64>,
    pub(super) committed: Rows,
    /// What a crash leaves, if that is not all that is committed.
    pub(super) durable: Option<Box<Rows>>,
    /// What a restore needs, if there may be one.
    pub(super) archive: Option<Archive>,
    open: BTreeMap<TransactionId, Open>,
    locks: BTreeMap<Lock, TransactionId>,
    /// Whom each transaction waits for, and since when.
    waits: BTreeMap<TransactionId, (TransactionId, Duration)>,
    begun: u64,
    last_position: i64,
    /// What became durable since it was last asked for.
    pub(super) effects: Vec<Effect>,
    /// Changes of somebody beside the agents that were committed so far.
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

    /// Commits; whoever waits for its rows goes on.
    pub(super) fn commit(&mut self, id: TransactionId) {
        if let Some(open) = self.open.remove(&id) {
            // A key that stands twice in a batch is decided at its first place.
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

    /// Notes what is durable once a transaction commits.
    pub(super) fn tell(&mut self, id: TransactionId, effect: Effect) {
        if let Some(open) = self.open.get_mut(&id) {
            open.changes.push(effect);
        }
    }

    pub(super) fn roll_back(&mut self, id: TransactionId) {
        self.open.remove(&id);
        self.let_go(id);
    }

    /// The server ends: nothing that is open is ever committed.
    pub(super) fn roll_back_all(&mut self) {
        for id in Vec::from_iter(self.open.keys().copied()) {
            self.roll_back(id);
        }
    }

    pub(super) fn set_committing(&mut self, id: TransactionId) {
        self.set_orphan(id, Orphan::Committing);
    }

    /// Its client has heard that it is lost, and it is not: it holds its rows until it ends.
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

    /// Ends every transaction that was left.
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

    /// Takes locks in their order, as many as are free. What is taken is kept while the rest is waited for.
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

    /// Takes a lock if it is free.
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

    /// Whether `holder` waits, by way of others, for `id`.
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

    /// The outcome by which an order was placed or rejected.
    pub(super) fn placing(&self, id: TransactionId, order: &Uuid) -> Option<&Rc<OutcomeColumns>> {
        let own = self.written(id).and_then(|written| written.placed.get(order));
        let key = own.or_else(|| self.committed.placed.get(order))?;
        self.outcome(id, key)
    }

    /// The state of an order that was placed.
    pub(super) fn state(&self, id: TransactionId, order: &Uuid) -> Option<&'static str> {
        let own = self.written(id).and_then(|written| written.states.get(order));
        own.or_else(|| self.committed.states.get(order)).copied()
    }

    pub(super) fn lines(&self, id: TransactionId, order: &Uuid) -> &[LineColumns] {
        let own = self.written(id).and_then(|written| written.lines.get(order));
        own.or_else(|| self.committed.lines.get(order)).map_or(&[], Vec::as_slice)
    }

    /// The database's clock: microseconds.
    pub(super) fn clock(&self) -> i64 {
        i64::try_from(self.now.as_micros()).unwrap_or(i64::MAX)
    }

    pub(super) fn payment(&self, id: TransactionId, payment: Uuid) -> Option<Rc<PaymentColumns>> {
        let own = self.written(id).and_then(|written| written.payments.get(&payment));
        own.or_else(|| self.committed.payments.get(&payment)).cloned()
    }

    /// The payments that are so, as a transaction sees them.
    pub(super) fn payments(
        &self,
        id: TransactionId,
        is_so: impl Fn(&PaymentColumns) -> bool,
    ) -> Vec<Rc<PaymentColumns>> {
        seen(&self.committed.payments, self.written(id).map(|written| &written.payments), |row| is_so(row))
    }

    /// The refunds that are so, as a transaction sees them.
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

    /// The key of the request for a payment, or for a refund of it.
    pub(super) fn key_of(&self, id: TransactionId, payment: Uuid, refund: Option<Uuid>) -> Option<Vec<u8>> {
        let own = self.written(id).into_iter().flat_map(|written| &written.requests);
        let mut all = own.chain(&self.committed.requests);
        let found = all.find(|(_, request)| (request.payment, request.refund) == (payment, refund));
        found.map(|(key, _)| key.clone())
    }

    fn written(&self, id: TransactionId) -> Option<&Rows> {
        self.open.get(&id).map(|open| &open.written)
    }

    /// Where a transaction writes; a transaction that the server ended writes nowhere.
    pub(super) fn write(&mut self, id: TransactionId, write: impl FnOnce(&mut Rows)) {
        if let Some(open) = self.open.get_mut(&id) {
            write(&mut open.written);
        }
    }

    /// Goes on from rows that were restored.
    pub(super) fn go_on_from(&mut self, rows: Rows, changes: u64, last_position: i64) {
        (self.committed, self.changes, self.last_position) = (rows, changes, last_position);
    }

    /// The next number of the ledger. Numbers of transactions that are rolled back leave gaps.
    pub(super) fn next_position(&mut self) -> i64 {
        self.last_position += 1;
        self.last_position
    }
}

/// The rows that are so: what is committed, and over it what one transaction wrote.
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
