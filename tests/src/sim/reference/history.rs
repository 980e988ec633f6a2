//! Model of the ledger: every outcome in the order of commits. At the end of a schedule it computes
//! the right outcome for each of them and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::shop::Shop;
use super::{Body, Key, Launch, Offer, Order, Row, State, Terms};

/// All committed outcomes and changes.
pub(in crate::sim) struct History {
    stock: Vec<Offer>,
    launches: Vec<Launch>,
    rows: BTreeMap<Key, Row>,
    /// Keys of the outcomes, and the changes of DBAs, in the order in which they were decided.
    /// Within a batch, positions have another order.
    decided: Vec<Decided>,
    /// Time of commit of each element of `decided`.
    committed_at: Vec<Duration>,
    now: Duration,
    /// The key under which each order was placed or rejected.
    placed_under: BTreeMap<Order, Key>,
    cancelled: BTreeSet<Order>,
}

/// The broken promise, and the difference that shows it.
pub(in crate::sim) type Differs = (&'static str, String);

/// A committed outcome or change.
#[derive(Debug, Clone, Copy)]
enum Decided {
    /// The outcome under a key. Its transaction began after this number of changes.
    Settled(Key, u64),
    /// A row's stock changed by this number of units.
    Restocked(i64, i64),
    /// A row got this price.
    Priced(i64, i64),
}

/// An order as the database has it.
pub(in crate::sim) struct Stored {
    pub(in crate::sim) order: Order,
    pub(in crate::sim) state: &'static str,
    pub(in crate::sim) brand: String,
    pub(in crate::sim) position: i64,
    pub(in crate::sim) terms: Terms,
    /// The personal values; `None` if they could not be decrypted.
    pub(in crate::sim) personal: Option<BTreeMap<&'static str, String>>,
}

impl History {
    pub(in crate::sim) fn new(stock: &[Offer], launches: &[Launch]) -> Self {
        Self {
            stock: stock.to_vec(),
            launches: launches.to_vec(),
            rows: BTreeMap::new(),
            decided: Vec::new(),
            committed_at: Vec::new(),
            now: Duration::ZERO,
            placed_under: BTreeMap::new(),
            cancelled: BTreeSet::new(),
        }
    }

    /// Returns the committed outcome under a key.
    pub(in crate::sim) fn row(&self, key: &Key) -> Option<&Row> {
        self.rows.get(key)
    }

    /// Sets the time of commit for the outcomes and changes that are added next.
    pub(in crate::sim) fn set_now(&mut self, now: Duration) {
        self.now = now;
    }

    fn decide(&mut self, decided: Decided) {
        self.decided.push(decided);
        self.committed_at.push(self.now);
    }

    /// Adds a new outcome. Returns the earlier outcome under the same key; there must be none.
    pub(in crate::sim) fn add(&mut self, row: Row, places: bool, began_after: u64) -> Option<Row> {
        if places {
            self.placed_under.insert(row.order, row.key);
        } else if row.outcome.code == "cancelled" {
            self.cancelled.insert(row.order);
        }
        self.decide(Decided::Settled(row.key, began_after));
        self.rows.insert(row.key, row)
    }

    /// Adds a change of a row's stock.
    pub(in crate::sim) fn restock(&mut self, row: i64, units: i64) {
        self.decide(Decided::Restocked(row, units));
    }

    /// Adds a change of a row's price.
    pub(in crate::sim) fn set_price(&mut self, row: i64, price: i64) {
        self.decide(Decided::Priced(row, price));
    }

    /// Returns the outcomes that the given ledger lacks or has with other values.
    pub(in crate::sim) fn lost(&self, ledger: &[Row]) -> Vec<Row> {
        let there: BTreeMap<&Key, &Row> = ledger.iter().map(|row| (&row.key, row)).collect();
        self.rows.values().filter(|row| there.get(&row.key) != Some(row)).cloned().collect()
    }

    /// Removes an outcome that a crash took.
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

    /// Removes all outcomes and changes committed after a moment, as a restore does. Returns the
    /// removed outcomes.
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

    /// Returns the state of an order.
    pub(in crate::sim) fn standing(&self, order: &Order) -> Option<&str> {
        let row = self.rows.get(self.placed_under.get(order)?)?;
        Some(if self.cancelled.contains(order) { "cancelled" } else { &row.outcome.code })
    }

    /// Returns the order under a key, or else the order with this id, if it belongs to the brand.
    pub(in crate::sim) fn find(&self, brand: &str, order: Order, key: Option<&Key>) -> Option<Order> {
        let order = key.and_then(|key| self.rows.get(key)).map_or(order, |row| row.order);
        let row = self.rows.get(self.placed_under.get(&order)?)?;
        (row.brand == brand).then_some(order)
    }

    /// Returns true if an answer has the right state of an order, or one that was right since the
    /// caller asked. `terms` are the terms that the order's caller sent.
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

    /// Compares the ledger with the model. `body` returns the body that an order's caller sent.
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
        let mut shop = Shop::open(&self.stock, &self.launches);
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

    /// P1: a stored order is equal to the body that its caller sent.
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
