//! The planner: a pure function that decides a batch from the rows that the ledger read under lock.
//! It returns what to write, and never touches the database.
//!
//! Requests are decided in the order of admission. Each one sees what the earlier ones of the batch
//! left over. So a batch ends exactly as its requests would one after the other.

/// Launches: opening times, and limits a customer and in all.
mod launches;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use bridge_protocol::domain::outcome::LaunchRefusal;
use bridge_protocol::domain::{
    Brand, Currency, KeyDigest, Money, OrderId, OrderTerms, Outcome, Sku, UnixMicros,
};

pub use self::launches::{CustomerTag, LaunchPlan, LaunchUnits, SkuLaunch};
use self::launches::{LaunchNumbers, UnitsBySku};
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

impl Request {
    /// Returns the order that the request cancels, if it is a cancellation.
    fn cancels(&self) -> Option<OrderId> {
        match &self.action {
            Action::Cancel { order } => Some(*order),
            Action::Place(_) => None,
        }
    }
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
    /// The customer, by whom a launch counts units.
    pub customer: CustomerTag,
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
    /// Launches whose rows another session holds, so they are not locked.
    pub held_launches: HashSet<i64>,
    /// Units that customers of the batch have from launches, by launch and customer, then by SKU
    /// row. The launches' rows are locked.
    pub purchases: HashMap<(i64, CustomerTag), UnitsBySku>,
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
    /// The units sold in a launch.
    Launch {
        /// Brand of the launch.
        brand: Brand,
        /// Row of the launch.
        launch_id: i64,
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
            Self::Launch { brand, launch_id } => {
                write!(f, "the units sold in launch {launch_id} of brand {brand}")
            }
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
    /// The launch that sells it now or next, if there is one.
    pub launch: Option<SkuLaunch>,
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
    /// Those of them that come from a launch.
    pub from_launches: Vec<LaunchUnits>,
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
    /// Rows to write about launches.
    pub launches: LaunchPlan,
}

/// Decides a batch.
pub fn plan(requests: &[Request], mut facts: Facts) -> Plan {
    let offers = facts.offers.values().flat_map(HashMap::values);
    let available = offers.map(|offer| (offer.sku_id, offer.available)).collect();
    let launches = LaunchNumbers::of(&mut facts);
    let mut planner = Planner {
        facts,
        available,
        launches,
        plan: Plan { decisions: Vec::with_capacity(requests.len()), ..Plan::default() },
        cancels: requests.iter().filter_map(Request::cancels).collect(),
        decided: HashMap::with_capacity(requests.len()),
        waiting_keys: HashMap::new(),
        waiting_orders: HashMap::new(),
    };
    for (index, request) in requests.iter().enumerate() {
        let decision = planner.decide(index, request);
        planner.plan.decisions.push(decision);
    }
    planner.plan.sold.retain(|_, units| *units != 0);
    planner.plan.launches = planner.launches.into_plan();
    planner.plan
}

struct Planner {
    facts: Facts,
    /// Available units by SKU row, less those that this batch has taken so far.
    available: HashMap<i64, i64>,
    launches: LaunchNumbers,
    plan: Plan,
    /// Orders that this batch cancels.
    cancels: HashSet<OrderId>,
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

    /// Places all lines of an order or none. If this batch cancels the order, it is known from now
    /// on.
    fn place(&mut self, brand: &Brand, currency: Currency, placement: &Placement) -> Decision {
        if let Some(awaited) = self.held_of(brand, &placement.terms) {
            return Decision::Waits(awaited);
        }
        let (state, outcome, (sku_ids, from_launches)) = match self.allocate(brand, currency, placement) {
            Ok(allocated) => (Standing::Placed, Outcome::Placed, allocated),
            Err(outcome) => (Standing::Rejected, outcome, Default::default()),
        };
        if self.cancels.contains(&placement.order) {
            let quantities = placement.terms.lines().iter().map(|line| line.quantity.get());
            let units = sku_ids.iter().copied().zip(quantities).collect();
            let standing = StandingOrder { brand: brand.clone(), state, units, from_launches };
            self.facts.orders.insert(placement.order, standing);
        }
        Decision::New { order: placement.order, outcome, sku_ids }
    }

    /// Returns the first row that an order needs and another session holds: the stock of a SKU, or
    /// a launch that is open.
    fn held_of(&self, brand: &Brand, terms: &OrderTerms) -> Option<Awaited> {
        if self.facts.held.is_empty() && self.facts.held_launches.is_empty() {
            return None;
        }
        let offers = self.facts.offers.get(brand)?;
        terms.lines().iter().find_map(|line| {
            let offer = offers.get(&line.sku)?;
            if self.facts.held.contains(&offer.sku_id) {
                return Some(Awaited::Stock { brand: brand.clone(), sku: line.sku.clone() });
            }
            let launch = offer.launch.filter(|launch| launch.is_open)?;
            self.held_launch(brand, launch.launch_id)
        })
    }

    fn held_launch(&self, brand: &Brand, launch_id: i64) -> Option<Awaited> {
        let held = self.facts.held_launches.contains(&launch_id);
        held.then(|| Awaited::Launch { brand: brand.clone(), launch_id })
    }

    /// Returns the first row that an order's cancellation needs and another session holds.
    fn held_among(&self, brand: &Brand, order: &StandingOrder) -> Option<Awaited> {
        let mut launches = order.from_launches.iter();
        if let Some(awaited) = launches.find_map(|line| self.held_launch(brand, line.launch_id)) {
            return Some(awaited);
        }
        let (held, _) = order.units.iter().find(|(sku_id, _)| self.facts.held.contains(sku_id))?;
        let mut offers = self.facts.offers.get(brand).into_iter().flatten();
        let named = offers.find(|(_, offer)| offer.sku_id == *held);
        let stock = |sku: &Sku| Awaited::Stock { brand: brand.clone(), sku: sku.clone() };
        Some(named.map_or_else(|| Awaited::Brand(brand.clone()), |(sku, _)| stock(sku)))
    }

    /// Takes the units of all lines, or fails with the outcome. Returns the SKU row of each line,
    /// and the units that come from launches.
    fn allocate(
        &mut self,
        brand: &Brand,
        currency: Currency,
        placement: &Placement,
    ) -> Result<(Vec<i64>, Vec<LaunchUnits>), Outcome> {
        let Placement { order, terms, customer, .. } = placement;
        if terms.currency() != currency {
            return Err(Outcome::WrongCurrency);
        }
        let offers = self.facts.offers.get(brand);
        let (mut sku_ids, mut from_launches) = (Vec::with_capacity(terms.lines().len()), Vec::new());
        for line in terms.lines() {
            let (sku, units) = (|| line.sku.clone(), line.quantity.get());
            let offer = offers
                .and_then(|offers| offers.get(&line.sku))
                .ok_or_else(|| Outcome::UnknownSku { sku: sku() })?;
            if let Some(SkuLaunch { opens_at, is_open: false, .. }) = offer.launch {
                let reason = LaunchRefusal::NotOpen { opens_at };
                return Err(Outcome::RefusedByLaunch { sku: sku(), reason });
            }
            if offer.price.amount() != line.unit_price || offer.price.currency() != currency {
                return Err(Outcome::PriceChanged { sku: sku(), price: offer.price });
            }
            if let Some(launch) = &offer.launch {
                let (launch_id, sku_id) = (launch.launch_id, offer.sku_id);
                let taken = LaunchUnits { launch_id, customer: *customer, sku_id, units };
                self.launches.check(launch, &line.sku, &taken, &from_launches)?;
                from_launches.push(taken);
            }
            if self.available.get(&offer.sku_id).is_none_or(|available| *available < units) {
                return Err(Outcome::SoldOut { sku: sku() });
            }
            sku_ids.push(offer.sku_id);
        }
        // No SKU is on two lines, because `OrderTerms` forbids it. So all units that were checked
        // above can be taken now.
        for (sku_id, line) in sku_ids.iter().zip(terms.lines()) {
            self.move_units(*sku_id, line.quantity.get());
        }
        self.launches.sell(*order, &from_launches);
        Ok((sku_ids, from_launches))
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
            && let Some(awaited) = self.held_among(brand, placed)
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
                self.launches.take_back(order, &std::mem::take(&mut standing.from_launches));
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
