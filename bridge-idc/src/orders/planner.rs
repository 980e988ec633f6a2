//! The planner: a pure function that decides a batch from the rows that the ledger read under lock.
//! It returns what to write, and never touches the database.
//!
//! Requests are decided in the order of admission. Each one sees what the earlier ones of the batch
//! left over. So a batch ends exactly as its requests would one after the other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use bridge_protocol::domain::{
    Brand, Currency, KeyDigest, Money, OrderId, OrderTerms, Outcome, Sku, UnixMicros,
};

use crate::vault::PersonalAtRest;

/// A request that is opened and checked, and can be decided.
#[derive(Debug, Clone)]
pub struct Request {
    /// Brand of the order.
    pub brand: Brand,
    /// Digest of the idempotency key.
    pub key: KeyDigest,
    /// Fingerprint of the request's body. The same key with another fingerprint is a mistake of the
    /// caller.
    pub fingerprint: [u8; 32],
    /// The action that the request asks for.
    pub action: Action,
}

/// The action that a request asks for.
#[derive(Debug, Clone)]
pub enum Action {
    /// Place an order.
    Place(Box<Placement>),
    /// Cancel an order.
    Cancel {
        /// The order.
        order: OrderId,
    },
}

impl Action {
    /// Returns the order that the action is about.
    pub fn order(&self) -> OrderId {
        match self {
            Self::Place(placement) => placement.order,
            Self::Cancel { order } => *order,
        }
    }

    /// Returns the number of lines of an order to place. A cancellation has none.
    pub fn lines(&self) -> usize {
        match self {
            Self::Place(placement) => placement.terms.lines().len(),
            Self::Cancel { .. } => 0,
        }
    }
}

/// An order to place.
#[derive(Debug, Clone)]
pub struct Placement {
    /// Id of the order.
    pub order: OrderId,
    /// Lines, amounts and customer reference of the order.
    pub terms: OrderTerms,
    /// Personal data of the order, encrypted for the vault.
    pub personal: PersonalAtRest,
}

/// Rows of the ledger that a batch mentions, read under lock.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Currency of each brand in the batch.
    pub brands: HashMap<Brand, Currency>,
    /// Outcomes that are committed already, by key.
    pub settled: HashMap<KeyDigest, Settled>,
    /// SKUs on sale, by brand and SKU. Their rows are locked unless they are in `held`.
    pub offers: HashMap<Brand, HashMap<Sku, Offer>>,
    /// Orders that the batch cancels. Their rows are locked unless they are in `held_orders`.
    pub orders: HashMap<OrderId, StandingOrder>,
    /// SKU rows that another session holds, so they are not locked.
    pub held: HashSet<i64>,
    /// Orders whose rows another session holds, so they are not locked.
    pub held_orders: HashSet<OrderId>,
}

/// A held row that a request waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Awaited {
    /// The stock of a SKU.
    Stock {
        /// Brand of the SKU.
        brand: Brand,
        /// The SKU.
        sku: Sku,
    },
    /// An order to cancel.
    Order(OrderId),
    /// An unknown row that a request of this brand needs. The database did not name it.
    Brand(Brand),
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stock { brand, sku } => write!(f, "the stock of SKU {sku} of brand {brand}"),
            Self::Order(order) => write!(f, "order {order}"),
            Self::Brand(brand) => write!(f, "something that brand {brand} needs"),
        }
    }
}

/// An outcome that the ledger has under an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Order of the outcome.
    pub order: OrderId,
    /// Fingerprint of the request.
    pub fingerprint: [u8; 32],
    /// The outcome.
    pub outcome: Outcome,
    /// Number that the ledger gave the outcome.
    pub position: i64,
    /// Time at which the outcome's batch was put together.
    pub committed_at: UnixMicros,
}

/// A SKU on sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Row of the SKU.
    pub sku_id: i64,
    /// Present price of one unit.
    pub price: Money,
    /// Units that are not ordered; never negative.
    pub available: i64,
}

/// An order to cancel, as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingOrder {
    /// Brand of the order.
    pub brand: Brand,
    /// State of the order.
    pub state: Standing,
    /// Allocated units of the order, as pairs of SKU row and number.
    pub units: Vec<(i64, i64)>,
}

/// State of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The order's units are allocated.
    Placed,
    /// The order was cancelled, and its units are available again.
    Cancelled,
    /// The order was never placed, for example because it was sold out or its price had changed.
    Rejected,
}

/// Decision about one request of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A new outcome, to write under the request's key.
    New {
        /// Order of the outcome.
        order: OrderId,
        /// The outcome.
        outcome: Outcome,
        /// SKU row of each line, in the order of the lines. Empty unless the order is placed.
        sku_ids: Vec<i64>,
    },
    /// The key has an outcome already, from the same request.
    Replay(Settled),
    /// An earlier request of this batch, at this index, has the same key and the same body. Its
    /// answer serves both.
    SameAs(usize),
    /// The key has an outcome already, from another request.
    KeyReused,
    /// The brand has no such order.
    NotFound,
    /// The ledger has no such brand.
    UnknownBrand,
    /// Another session holds a row that the request needs. Nothing is written about it now.
    Waits(Awaited),
}

/// The rows to write, and the decision about each request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The decisions, in the order of the batch's requests.
    pub decisions: Vec<Decision>,
    /// Units newly sold by SKU row; negative if more units came back. Rows without a change are
    /// left out. The map is sorted, so all writers take their locks in one order.
    pub sold: BTreeMap<i64, i64>,
    /// Orders to set to cancelled.
    pub cancelled: Vec<OrderId>,
}

/// Decides a batch.
pub fn plan(requests: &[Request], facts: Facts) -> Plan {
    let offers = facts.offers.values().flat_map(HashMap::values);
    let available = offers.map(|offer| (offer.sku_id, offer.available)).collect();
    let mut planner = Planner {
        facts,
        available,
        plan: Plan::default(),
        decided: HashMap::new(),
        waiting_keys: HashMap::new(),
        waiting_orders: HashMap::new(),
    };
    for (index, request) in requests.iter().enumerate() {
        let decision = planner.decide(index, request);
        planner.plan.decisions.push(decision);
    }
    planner.plan.sold.retain(|_, units| *units != 0);
    planner.plan
}

struct Planner {
    facts: Facts,
    /// Available units by SKU row, less those that this batch has taken so far.
    available: HashMap<i64, i64>,
    plan: Plan,
    /// Requests of this batch that decided a key: their index and fingerprint, by key.
    decided: HashMap<KeyDigest, (usize, [u8; 32])>,
    /// Held rows that requests of this batch wait for, by key. A later request with the same key
    /// waits for the same row.
    waiting_keys: HashMap<KeyDigest, Awaited>,
    /// Held rows that orders of this batch wait for, by the order to place.
    waiting_orders: HashMap<OrderId, Awaited>,
}

impl Planner {
    fn decide(&mut self, index: usize, request: &Request) -> Decision {
        if let Some(settled) = self.facts.settled.get(&request.key) {
            let same = settled.fingerprint == request.fingerprint;
            return if same { Decision::Replay(settled.clone()) } else { Decision::KeyReused };
        }
        if let Some((earlier, fingerprint)) = self.decided.get(&request.key) {
            let same = *fingerprint == request.fingerprint;
            return if same { Decision::SameAs(*earlier) } else { Decision::KeyReused };
        }
        if let Some(awaited) = self.waiting_keys.get(&request.key) {
            return Decision::Waits(awaited.clone());
        }
        let Some(currency) = self.facts.brands.get(&request.brand).copied() else {
            return Decision::UnknownBrand;
        };
        let decision = match &request.action {
            Action::Place(placement) => self.place(&request.brand, currency, placement),
            Action::Cancel { order } => self.cancel(&request.brand, *order),
        };
        match &decision {
            Decision::New { .. } => {
                self.decided.insert(request.key, (index, request.fingerprint));
            }
            Decision::Waits(awaited) => {
                self.waiting_keys.insert(request.key, awaited.clone());
                if let Action::Place(placement) = &request.action {
                    self.waiting_orders.insert(placement.order, awaited.clone());
                }
            }
            _ => {}
        }
        decision
    }

    /// Places all lines of an order or none. The order is known from now on, so a later request of
    /// this batch can cancel it.
    fn place(&mut self, brand: &Brand, currency: Currency, placement: &Placement) -> Decision {
        if let Some(awaited) = self.held_of(brand, &placement.terms) {
            return Decision::Waits(awaited);
        }
        let (state, outcome, sku_ids) = match self.allocate(brand, currency, &placement.terms) {
            Ok(sku_ids) => (Standing::Placed, Outcome::Placed, sku_ids),
            Err(outcome) => (Standing::Rejected, outcome, Vec::new()),
        };
        let quantities = placement.terms.lines().iter().map(|line| line.quantity.get());
        let units = sku_ids.iter().copied().zip(quantities).collect();
        self.facts.orders.insert(placement.order, StandingOrder { brand: brand.clone(), state, units });
        Decision::New { order: placement.order, outcome, sku_ids }
    }

    /// Returns the first SKU of an order whose row another session holds.
    fn held_of(&self, brand: &Brand, terms: &OrderTerms) -> Option<Awaited> {
        if self.facts.held.is_empty() {
            return None;
        }
        let offers = self.facts.offers.get(brand)?;
        let held = |sku: &&Sku| offers.get(*sku).is_some_and(|offer| self.facts.held.contains(&offer.sku_id));
        let sku = terms.lines().iter().map(|line| &line.sku).find(held)?;
        Some(Awaited::Stock { brand: brand.clone(), sku: sku.clone() })
    }

    /// Returns the first of these SKU rows that another session holds.
    fn held_among(&self, brand: &Brand, units: &[(i64, i64)]) -> Option<Awaited> {
        let (held, _) = units.iter().find(|(sku_id, _)| self.facts.held.contains(sku_id))?;
        let mut offers = self.facts.offers.get(brand).into_iter().flatten();
        let named = offers.find(|(_, offer)| offer.sku_id == *held);
        let stock = |sku: &Sku| Awaited::Stock { brand: brand.clone(), sku: sku.clone() };
        Some(named.map_or_else(|| Awaited::Brand(brand.clone()), |(sku, _)| stock(sku)))
    }

    fn allocate(
        &mut self,
        brand: &Brand,
        currency: Currency,
        terms: &OrderTerms,
    ) -> Result<Vec<i64>, Outcome> {
        if terms.currency() != currency {
            return Err(Outcome::WrongCurrency);
        }
        let offers = self.facts.offers.get(brand);
        let mut sku_ids = Vec::with_capacity(terms.lines().len());
        for line in terms.lines() {
            let sku = || line.sku.clone();
            let offer = offers
                .and_then(|offers| offers.get(&line.sku))
                .ok_or_else(|| Outcome::UnknownSku { sku: sku() })?;
            if offer.price.amount() != line.unit_price || offer.price.currency() != currency {
                return Err(Outcome::PriceChanged { sku: sku(), price: offer.price });
            }
            if self.available.get(&offer.sku_id).is_none_or(|available| *available < line.quantity.get()) {
                return Err(Outcome::SoldOut { sku: sku() });
            }
            sku_ids.push(offer.sku_id);
        }
        // No SKU is on two lines, because `OrderTerms` forbids it. So all units that were checked
        // above can be taken now.
        for (sku_id, line) in sku_ids.iter().zip(terms.lines()) {
            self.move_units(*sku_id, line.quantity.get());
        }
        Ok(sku_ids)
    }

    /// Returns an order's units once. Cancelling a cancelled order gives the same outcome and has
    /// no effect.
    fn cancel(&mut self, brand: &Brand, order: OrderId) -> Decision {
        if let Some(awaited) = self.waiting_orders.get(&order) {
            return Decision::Waits(awaited.clone());
        }
        let known = self.facts.orders.get(&order).filter(|standing| standing.brand == *brand);
        if known.is_some() && self.facts.held_orders.contains(&order) {
            return Decision::Waits(Awaited::Order(order));
        }
        if let Some(placed) = known.filter(|standing| standing.state == Standing::Placed)
            && let Some(awaited) = self.held_among(brand, &placed.units)
        {
            return Decision::Waits(awaited);
        }
        let Some(standing) = self.facts.orders.get_mut(&order).filter(|standing| standing.brand == *brand)
        else {
            return Decision::NotFound;
        };
        let outcome = match standing.state {
            Standing::Rejected => Outcome::NotCancellable,
            Standing::Cancelled => Outcome::Cancelled,
            Standing::Placed => {
                standing.state = Standing::Cancelled;
                self.plan.cancelled.push(order);
                for (sku_id, units) in std::mem::take(&mut standing.units) {
                    self.move_units(sku_id, -units);
                }
                Outcome::Cancelled
            }
        };
        Decision::New { order, outcome, sku_ids: Vec::new() }
    }

    /// Moves units of a SKU from available to sold, or back if `units` is negative.
    fn move_units(&mut self, sku_id: i64, units: i64) {
        *self.available.entry(sku_id).or_default() -= units;
        *self.plan.sold.entry(sku_id).or_default() += units;
    }
}

#[cfg(test)]
mod tests;
