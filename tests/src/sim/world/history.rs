//! The ledger as it must be: every outcome that was committed, and at the end the reference model, which decides the
//! same requests one by one, in the order in which they were committed, in the simplest way there is.

use std::collections::{BTreeMap, BTreeSet};

use bridge_idc::ledger::memory::ForSale;
use bridge_idc::ledger::model::{Effect, ModelDatabase};
use bridge_idc::planner::{Standing, StandingOrder};
use bridge_protocol::domain::{Brand, KeyDigest, Money, OrderId, OrderTerms, Outcome, Sku};
use bridge_protocol::receipt::Receipt;
use bridge_protocol::wire::order::State;
use bytes::Bytes;

/// Everything that was committed.
pub(super) struct History {
    stock: Vec<ForSale>,
    rows: BTreeMap<KeyDigest, Receipt>,
    /// Their keys, in the order in which they were decided. Positions have another one within a batch.
    decided: Vec<KeyDigest>,
    /// The key under which each order was placed or rejected.
    placed_under: BTreeMap<OrderId, KeyDigest>,
    cancelled: BTreeSet<OrderId>,
}

impl History {
    pub(super) fn new(stock: &[ForSale]) -> Self {
        Self {
            stock: stock.to_vec(),
            rows: BTreeMap::new(),
            decided: Vec::new(),
            placed_under: BTreeMap::new(),
            cancelled: BTreeSet::new(),
        }
    }

    /// What is committed under a key.
    pub(super) fn row(&self, key: &KeyDigest) -> Option<&Receipt> {
        self.rows.get(key)
    }

    /// Adds a new outcome; returns the one that was there before, which must not be.
    pub(super) fn add(&mut self, row: &Receipt, places: bool) -> Option<Receipt> {
        if places {
            self.placed_under.insert(row.order, row.key);
        } else if row.outcome == Outcome::Cancelled {
            self.cancelled.insert(row.order);
        }
        self.decided.push(row.key);
        self.rows.insert(row.key, row.clone())
    }

    /// Rows that the ledger does not have (any more).
    pub(super) fn lost(&self, ledger: &[Effect]) -> Vec<Receipt> {
        let there: BTreeSet<(&KeyDigest, OrderId)> =
            ledger.iter().map(|effect| (&effect.receipt.key, effect.receipt.order)).collect();
        self.rows.values().filter(|row| !there.contains(&(&row.key, row.order))).cloned().collect()
    }

    /// Forgets a row that a crash took.
    pub(super) fn forget(&mut self, row: &Receipt) {
        self.rows.remove(&row.key);
        self.decided.retain(|key| *key != row.key);
        if self.placed_under.get(&row.order) == Some(&row.key) {
            self.placed_under.remove(&row.order);
        } else {
            self.cancelled.remove(&row.order);
        }
    }

    /// How an order stands, by its id's bytes.
    pub(super) fn standing(&self, order: &[u8]) -> Option<&'static str> {
        let order = OrderId::from_bytes(order).ok()?;
        let row = self.rows.get(self.placed_under.get(&order)?)?;
        Some(if self.cancelled.contains(&order) { "cancelled" } else { row.outcome.code() })
    }

    /// As the ledger looks an order up: the key decides.
    pub(super) fn look_up(&self, brand: &Brand, order: OrderId, key: Option<KeyDigest>) -> Option<State> {
        let order = key.and_then(|key| self.rows.get(&key)).map_or(order, |row| row.order);
        let row = self.rows.get(self.placed_under.get(&order)?).filter(|row| row.brand == *brand)?;
        Some(State {
            order: Bytes::copy_from_slice(order.as_bytes()),
            state: self.standing(order.as_bytes())?.to_owned(),
            terms: None,
            position: row.position,
            committed_at_micros: row.committed_at.get(),
        })
    }

    /// Compares the ledger with the reference model; `terms` are what an order's caller sent.
    pub(super) fn compare<'a>(
        &self,
        ledger: &ModelDatabase,
        terms: impl Fn(&OrderId) -> Option<&'a OrderTerms>,
    ) -> Result<(), String> {
        ledger.invariants()?;
        let effects = ledger.effects();
        let lost = self.lost(&effects);
        if effects.len() != self.rows.len() || !lost.is_empty() {
            return Err(format!("the ledger has other outcomes than were committed; it lacks {lost:?}"));
        }
        let mut model = Model::open(&self.stock);
        for row in self.decided.iter().filter_map(|key| self.rows.get(key)) {
            let expected = match self.placed_under.get(&row.order) == Some(&row.key) {
                true => terms(&row.order).map(|terms| model.place(&row.brand, row.order, terms)),
                false => model.cancel(&row.order),
            };
            if expected.as_ref() != Some(&row.outcome) {
                return Err(format!("the reference model expects {expected:?} of {row:?}"));
            }
        }
        for (order, StandingOrder { state, units, .. }) in ledger.orders() {
            let state = match state {
                Standing::Placed => "placed",
                Standing::Cancelled => "cancelled",
                Standing::Rejected => "rejected",
            };
            let expected = model.orders.get(&order);
            if expected.map(|(state, _)| *state) != Some(state) {
                return Err(format!("order {order} is {state}, the reference model has {expected:?}"));
            }
            if state == "placed" && expected.is_some_and(|(_, expected)| *expected != units) {
                return Err(format!("order {order} holds {units:?}, the reference model has {expected:?}"));
            }
        }
        Ok(())
    }
}

/// The reference model: stock by SKU, and orders.
struct Model {
    /// By brand and SKU: the row's number, the price, the units available.
    stock: BTreeMap<(Brand, Sku), (i64, Money, i64)>,
    /// How each order stands, and its units by row.
    orders: BTreeMap<OrderId, (&'static str, Units)>,
}

/// Units by the stock's row, sorted.
type Units = Vec<(i64, i64)>;

impl Model {
    fn open(stock: &[ForSale]) -> Self {
        let rows = (1..).zip(stock);
        let rows = rows.map(|(id, row)| ((row.brand.clone(), row.sku.clone()), (id, row.price, row.units)));
        Self { stock: rows.collect(), orders: BTreeMap::new() }
    }

    fn place(&mut self, brand: &Brand, order: OrderId, terms: &OrderTerms) -> Outcome {
        let mut units = Vec::new();
        for line in terms.lines() {
            let sku = line.sku.clone();
            let rejected = match self.stock.get(&(brand.clone(), sku.clone())) {
                None => Some(Outcome::UnknownSku { sku }),
                Some((_, price, _)) if price.amount() != line.unit_price => {
                    Some(Outcome::PriceChanged { sku, price: *price })
                }
                Some((_, _, available)) if *available < line.quantity.get() => Some(Outcome::SoldOut { sku }),
                Some((id, ..)) => {
                    units.push((*id, line.quantity.get()));
                    None
                }
            };
            if let Some(rejected) = rejected {
                self.orders.insert(order, ("rejected", Vec::new()));
                return rejected;
            }
        }
        units.sort_unstable();
        self.give(&units, -1);
        self.orders.insert(order, ("placed", units));
        Outcome::Placed
    }

    fn cancel(&mut self, order: &OrderId) -> Option<Outcome> {
        let (state, units) = self.orders.get_mut(order)?;
        match *state {
            "rejected" => Some(Outcome::NotCancellable),
            _ => {
                *state = "cancelled";
                let units = std::mem::take(units);
                self.give(&units, 1);
                Some(Outcome::Cancelled)
            }
        }
    }

    fn give(&mut self, units: &[(i64, i64)], sign: i64) {
        for (id, available) in self.stock.values_mut().map(|(id, _, available)| (id, available)) {
            *available +=
                units.iter().filter(|(row, _)| row == id).map(|(_, units)| sign * units).sum::<i64>();
        }
    }
}
