//! The ledger as it must be: every outcome that was committed, in its order, and at the end what each of them had to be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::shop::Shop;
use super::{Body, Key, Offer, Order, Row, State, Terms};

/// Everything that was committed.
pub(in crate::sim) struct History {
    stock: Vec<Offer>,
    rows: BTreeMap<Key, Row>,
    /// Their keys and what DBAs changed, in the order in which they were decided. Positions have another one within a batch.
    decided: Vec<Decided>,
    /// When each of them was committed.
    committed_at: Vec<Duration>,
    now: Duration,
    /// The key under which each order was placed or rejected.
    placed_under: BTreeMap<Order, Key>,
    cancelled: BTreeSet<Order>,
}

/// Which promise a difference breaks, and what differs.
pub(in crate::sim) type Differs = (&'static str, String);

/// Something that was committed.
#[derive(Debug, Clone, Copy)]
enum Decided {
    /// What is settled under a key, by a transaction that began after so many changes.
    Settled(Key, u64),
    /// So many units more of a row.
    Restocked(i64, i64),
    /// Another price of a row.
    Priced(i64, i64),
}

/// An order as the database has it.
pub(in crate::sim) struct Stored {
    pub(in crate::sim) order: Order,
    pub(in crate::sim) state: &'static str,
    pub(in crate::sim) brand: String,
    pub(in crate::sim) position: i64,
    pub(in crate::sim) terms: Terms,
    /// The personal values; `None` if they do not open.
    pub(in crate::sim) personal: Option<BTreeMap<&'static str, String>>,
}

impl History {
    pub(in crate::sim) fn new(stock: &[Offer]) -> Self {
        Self {
            stock: stock.to_vec(),
            rows: BTreeMap::new(),
            decided: Vec::new(),
            committed_at: Vec::new(),
            now: Duration::ZERO,
            placed_under: BTreeMap::new(),
            cancelled: BTreeSet::new(),
        }
    }

    /// What is committed under a key.
    pub(in crate::sim) fn row(&self, key: &Key) -> Option<&Row> {
        self.rows.get(key)
    }

    /// When what is added from here on was committed.
    pub(in crate::sim) fn set_now(&mut self, now: Duration) {
        self.now = now;
    }

    fn decide(&mut self, decided: Decided) {
        self.decided.push(decided);
        self.committed_at.push(self.now);
    }

    /// Adds a new outcome; returns the one that was there before, which must not be.
    pub(in crate::sim) fn add(&mut self, row: Row, places: bool, began_after: u64) -> Option<Row> {
        if places {
            self.placed_under.insert(row.order, row.key);
        } else if row.outcome.code == "cancelled" {
            self.cancelled.insert(row.order);
        }
        self.decide(Decided::Settled(row.key, began_after));
        self.rows.insert(row.key, row)
    }

    /// Somebody brought units of a row in, or took them away.
    pub(in crate::sim) fn restock(&mut self, row: i64, units: i64) {
        self.decide(Decided::Restocked(row, units));
    }

    /// Somebody set the price of a row.
    pub(in crate::sim) fn set_price(&mut self, row: i64, price: i64) {
        self.decide(Decided::Priced(row, price));
    }

    /// Rows that the ledger does not have (any more), or has otherwise.
    pub(in crate::sim) fn lost(&self, ledger: &[Row]) -> Vec<Row> {
        let there: BTreeMap<&Key, &Row> = ledger.iter().map(|row| (&row.key, row)).collect();
        self.rows.values().filter(|row| there.get(&row.key) != Some(row)).cloned().collect()
    }

    /// Forgets a row that a crash took.
    pub(in crate::sim) fn forget(&mut self, row: &Row) {
        self.rows.remove(&row.key);
        let is_it = |decided: &Decided| matches!(decided, Decided::Settled(key, _) if *key == row.key);
        if let Some(index) = self.decided.iter().position(is_it) {
            self.decided.remove(index);
            self.committed_at.remove(index);
        }
        if self.placed_under.get(&row.order) == Some(&row.key) {
            self.placed_under.remove(&row.order);
        } else {
            self.cancelled.remove(&row.order);
        }
    }

    /// A restore takes what was committed after that moment, and nothing else: these rows.
    pub(in crate::sim) fn restore(&mut self, to: Duration) -> Vec<Row> {
        let kept = self.committed_at.partition_point(|at| *at <= to);
        self.committed_at.truncate(kept);
        let taken = self.decided.split_off(kept);
        let key = |decided: Decided| match decided {
            Decided::Settled(key, _) => Some(key),
            Decided::Restocked(..) | Decided::Priced(..) => None,
        };
        let taken =
            Vec::from_iter(taken.into_iter().filter_map(key).filter_map(|key| self.rows.remove(&key)));
        self.placed_under.retain(|_, key| self.rows.contains_key(key));
        let cancelled = self.rows.values().filter(|row| row.outcome.code == "cancelled");
        self.cancelled = cancelled.map(|row| row.order).collect();
        taken
    }

    /// How an order stands.
    pub(in crate::sim) fn standing(&self, order: &Order) -> Option<&str> {
        let row = self.rows.get(self.placed_under.get(order)?)?;
        Some(if self.cancelled.contains(order) { "cancelled" } else { &row.outcome.code })
    }

    /// The order that is found by its id or by a key, which decides.
    pub(in crate::sim) fn find(&self, brand: &str, order: Order, key: Option<&Key>) -> Option<Order> {
        let order = key.and_then(|key| self.rows.get(key)).map_or(order, |row| row.order);
        let row = self.rows.get(self.placed_under.get(&order)?)?;
        (row.brand == brand).then_some(order)
    }

    /// Whether this is how an order stands, or stood since it was asked about; `terms` are what its caller sent.
    pub(in crate::sim) fn fits(&self, state: &State, terms: Option<&Terms>) -> bool {
        let row = self.placed_under.get(&state.order).and_then(|key| self.rows.get(key));
        let Some(row) = row else { return false };
        let standing = self.standing(&state.order);
        let stands = standing == Some(state.state.as_str())
            || (standing == Some("cancelled") && state.state == "placed");
        let terms = terms.filter(|_| row.outcome.is_placed());
        stands
            && (state.position, state.committed_at) == (row.position, row.committed_at)
            && state.terms.as_ref() == terms
    }

    /// Compares the ledger with what it must be; `body` is what an order's caller sent.
    pub(in crate::sim) fn compare<'a>(
        &self,
        outcomes: &[Row],
        orders: &[Stored],
        available: &BTreeMap<i64, i64>,
        body: impl Fn(&Order) -> Option<&'a Body>,
    ) -> Result<(), Differs> {
        let differs = |what| Err(("THE END", what));
        let lost = self.lost(outcomes);
        if outcomes.len() != self.rows.len() || !lost.is_empty() {
            return differs(format!("the ledger has other outcomes than were committed; it lacks {lost:?}"));
        }
        let mut shop = Shop::open(&self.stock);
        for decided in &self.decided {
            let (key, began_after) = match *decided {
                Decided::Settled(key, began_after) => (key, began_after),
                Decided::Restocked(row, units) => {
                    shop.restock(row, units);
                    continue;
                }
                Decided::Priced(row, price) => {
                    shop.set_price(row, price);
                    continue;
                }
            };
            let Some(row) = self.rows.get(&key) else { continue };
            let expected = match self.placed_under.get(&row.order) == Some(&row.key) {
                true => body(&row.order).map(|body| shop.place(row, &body.terms, began_after)),
                false => shop.cancel(&row.order),
            };
            if expected.as_ref() != Some(&row.outcome) {
                return differs(format!("the reference model expects {expected:?} of {row:?}"));
            }
        }
        if shop.available() != available {
            return differs(format!("the ledger has other stock than {:?}", shop.available()));
        }
        let placed = shop.orders.values().filter(|(state, _)| *state != "rejected").count();
        if placed != orders.len() {
            return differs(format!("the ledger has {} orders, the reference model {placed}", orders.len()));
        }
        orders.iter().try_for_each(|stored| self.compare_order(stored, &shop, body(&stored.order)))
    }

    /// P1: what is durable of an order is what its caller sent.
    fn compare_order(&self, stored: &Stored, shop: &Shop, body: Option<&Body>) -> Result<(), Differs> {
        let differs = |what| Err(("P1", what));
        let Stored { order, state, brand, position, terms, personal } = stored;
        let expected = shop.orders.get(order).map(|(state, _)| *state);
        let row = self.placed_under.get(order).and_then(|key| self.rows.get(key));
        let fits = expected == Some(*state)
            && row.is_some_and(|row| (&row.brand, row.position) == (brand, *position))
            && body.is_some_and(|body| body.terms == *terms);
        if !fits {
            return differs(format!(
                "the order of {row:?} is stored as {state} with {terms:?}, sent was {body:?}"
            ));
        }
        if personal.as_ref() != body.map(|body| &body.personal) {
            return differs(format!("the personal data of {row:?} is {personal:?}, sent was {body:?}"));
        }
        Ok(())
    }
}
