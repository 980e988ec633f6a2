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
mod tests {
    use std::hash::{DefaultHasher, Hash, Hasher};

    use bridge_protocol::domain::{IdempotencyKey, Line, Quantity};
    use proptest::prelude::*;

    use super::*;
    use crate::orders::store::memory::{ForSale, MemoryLedger};
    use crate::orders::store::{Batch, RequestOutcome};

    const PRICE: i64 = 10;
    const AT: UnixMicros = UnixMicros::new(1_795_343_485_000_000);

    /// A request in short form. Equal bodies have equal fingerprints.
    #[derive(Debug, Clone)]
    struct Sketch {
        key: u8,
        order: u8,
        body: Body,
    }

    #[derive(Debug, Clone, Hash)]
    enum Body {
        /// Lines as pairs of SKU and quantity, each SKU once.
        Place { lines: BTreeMap<u8, u8>, price: i64, currency: &'static str },
        /// Cancellation of an order.
        Cancel { order: u8 },
    }

    impl Sketch {
        fn place(key: u8, order: u8, lines: &[(u8, u8)]) -> Self {
            let lines = lines.iter().copied().collect();
            Self { key, order, body: Body::Place { lines, price: PRICE, currency: "KRW" } }
        }

        fn cancel(key: u8, order: u8) -> Self {
            Self { key, order, body: Body::Cancel { order } }
        }

        fn request(&self) -> Request {
            let mut hash = DefaultHasher::new();
            self.body.hash(&mut hash);
            let mut fingerprint = [0; 32];
            fingerprint[..8].copy_from_slice(&hash.finish().to_be_bytes());
            let action = match &self.body {
                Body::Cancel { order } => Action::Cancel { order: order_id(*order) },
                Body::Place { lines, price, currency } => Action::Place(Box::new(Placement {
                    order: order_id(self.order),
                    terms: terms(lines, *price, currency),
                    personal: PersonalAtRest {
                        key_version: 1,
                        wrapped_key: Vec::new(),
                        fields: Default::default(),
                    },
                })),
            };
            Request { brand: brand(), key: key(self.key), fingerprint, action }
        }
    }

    fn brand() -> Brand {
        Brand::new("acme").unwrap()
    }

    fn key(n: u8) -> KeyDigest {
        IdempotencyKey::parse(n.to_string().as_bytes()).unwrap().digest(&brand())
    }

    fn order_id(n: u8) -> OrderId {
        OrderId::new(AT, [n; 10])
    }

    fn sku(n: u8) -> Sku {
        Sku::new(&format!("SKU-{n}")).unwrap()
    }

    fn money(amount: i64, currency: &str) -> Money {
        Money::new(amount, Currency::new(currency).unwrap()).unwrap()
    }

    fn terms(lines: &BTreeMap<u8, u8>, unit_price: i64, currency: &str) -> OrderTerms {
        let line = |(n, quantity): (&u8, &u8)| Line {
            sku: sku(*n),
            quantity: Quantity::new(i64::from(*quantity)).unwrap(),
            unit_price,
        };
        let lines: Vec<Line> = lines.iter().map(line).collect();
        let total = lines.iter().map(|line| line.quantity.get() * unit_price).sum();
        OrderTerms::new(lines, money(0, currency), money(total, currency), "c".to_owned(), 2_000).unwrap()
    }

    /// Creates a ledger with this many units of SKUs 0, 1, 2, and so on, in rows 1, 2, 3, and so
    /// on.
    fn ledger(stock: &[i64]) -> MemoryLedger {
        let for_sale = |(n, units): (u8, &i64)| ForSale {
            brand: brand(),
            sku: sku(n),
            price: money(PRICE, "KRW"),
            units: *units,
        };
        MemoryLedger::new((0..).zip(stock).map(for_sale))
    }

    fn commit(ledger: &mut MemoryLedger, sketches: &[Sketch]) -> Vec<RequestOutcome> {
        let requests = sketches.iter().map(Sketch::request).collect();
        ledger.commit(&Batch { requests, at: AT }).iter().map(|one| one.answer().clone()).collect()
    }

    /// Returns the facts of a brand with one SKU and no outcomes.
    fn facts(available: i64) -> Facts {
        let offer = Offer { sku_id: 1, price: money(PRICE, "KRW"), available };
        Facts {
            brands: HashMap::from([(brand(), Currency::new("KRW").unwrap())]),
            offers: HashMap::from([(brand(), HashMap::from([(sku(0), offer)]))]),
            ..Facts::default()
        }
    }

    fn outcomes(plan: &Plan) -> Vec<Option<Outcome>> {
        let outcome = |decision: &Decision| match decision {
            Decision::New { outcome, .. } => Some(outcome.clone()),
            _ => None,
        };
        plan.decisions.iter().map(outcome).collect()
    }

    #[test]
    fn requests_are_decided_in_the_order_of_their_admission() {
        let requests =
            [(1, 2), (2, 3), (3, 2)].map(|(n, units)| Sketch::place(n, n, &[(0, units)]).request());
        let plan = plan(&requests, facts(4));
        let sold_out = Outcome::SoldOut { sku: sku(0) };
        assert_eq!(outcomes(&plan), [Some(Outcome::Placed), Some(sold_out), Some(Outcome::Placed)]);
        assert_eq!(plan.sold, BTreeMap::from([(1, 4)]));
    }

    #[test]
    fn whoever_needs_a_held_row_waits_and_whatever_concerns_it_waits_behind() {
        let requests = [
            Sketch::place(1, 1, &[(0, 1)]),
            Sketch::place(2, 2, &[(9, 1)]),
            Sketch::cancel(3, 1),
            Sketch::place(1, 4, &[(9, 1)]),
        ];
        let facts = Facts { held: HashSet::from([1]), ..facts(4) };
        let plan = plan(&requests.map(|sketch| sketch.request()), facts);
        let waits = Decision::Waits(Awaited::Stock { brand: brand(), sku: sku(0) });
        assert_eq!([&plan.decisions[0], &plan.decisions[2], &plan.decisions[3]], [&waits; 3]);
        assert_eq!(outcomes(&plan)[1], Some(Outcome::UnknownSku { sku: sku(9) }), "it needs nothing of that");
        assert_eq!((plan.sold.len(), plan.cancelled.len()), (0, 0));
    }

    /// Returns the facts of a brand with two SKUs and an order of both.
    fn facts_of_an_order(state: Standing) -> Facts {
        let offer = |sku_id| Offer { sku_id, price: money(PRICE, "KRW"), available: 4 };
        let standing = StandingOrder { brand: brand(), state, units: vec![(1, 1), (2, 3)] };
        Facts {
            offers: HashMap::from([(brand(), HashMap::from([(sku(0), offer(1)), (sku(1), offer(2))]))]),
            orders: HashMap::from([(order_id(1), standing)]),
            ..facts(4)
        }
    }

    fn cancelled(order: u8) -> Decision {
        Decision::New { order: order_id(order), outcome: Outcome::Cancelled, sku_ids: Vec::new() }
    }

    #[test]
    fn a_cancellation_waits_for_the_stock_that_it_gives_back_if_any() {
        let cancel = [Sketch::cancel(1, 1).request()];
        let placed = || facts_of_an_order(Standing::Placed);
        assert_eq!(plan(&cancel, placed()).decisions, [cancelled(1)]);
        for (row, n) in [(1, 0), (2, 1)] {
            let held = plan(&cancel, Facts { held: HashSet::from([row]), ..placed() });
            let stock = Awaited::Stock { brand: brand(), sku: sku(n) };
            assert_eq!(held.decisions, [Decision::Waits(stock)]);
            assert_eq!((held.sold.len(), held.cancelled.len()), (0, 0));
        }
        // No order of the batch names the SKU of the held row, so the request waits for the brand.
        let nameless = Facts { held: HashSet::from([2]), offers: HashMap::new(), ..placed() };
        assert_eq!(plan(&cancel, nameless).decisions, [Decision::Waits(Awaited::Brand(brand()))]);
        for (state, outcome) in
            [(Standing::Cancelled, Outcome::Cancelled), (Standing::Rejected, Outcome::NotCancellable)]
        {
            let facts = Facts { held: HashSet::from([1, 2]), ..facts_of_an_order(state) };
            assert_eq!(outcomes(&plan(&cancel, facts)), [Some(outcome)]);
        }
    }

    #[test]
    fn a_cancellation_waits_for_its_own_brands_held_order_only() {
        let placed = |held| Facts {
            held_orders: HashSet::from([order_id(held)]),
            ..facts_of_an_order(Standing::Placed)
        };
        let cancel = [Sketch::cancel(1, 1).request()];
        let waits = [Decision::Waits(Awaited::Order(order_id(1)))];
        assert_eq!(plan(&cancel, placed(1)).decisions, waits);
        assert_eq!(plan(&cancel, placed(2)).decisions, [cancelled(1)]);
        assert_eq!(plan(&[Sketch::cancel(1, 2).request()], placed(2)).decisions, [Decision::NotFound]);
        // A request for another brand's order must learn nothing about it, not even that its row is
        // held.
        let other = Brand::new("other").unwrap();
        let mut facts = placed(1);
        facts.brands.insert(other.clone(), Currency::new("KRW").unwrap());
        let theirs = [Request { brand: other, ..cancel[0].clone() }];
        assert_eq!(plan(&theirs, facts).decisions, [Decision::NotFound]);
    }

    #[test]
    fn what_a_cancellation_gives_back_is_for_sale_within_the_same_batch() {
        let requests = [
            Sketch::place(1, 2, &[(1, 7)]),
            Sketch::cancel(2, 1),
            Sketch::place(3, 3, &[(1, 7)]),
            Sketch::place(4, 4, &[(0, 5)]),
        ];
        let plan = plan(&requests.map(|sketch| sketch.request()), facts_of_an_order(Standing::Placed));
        let sold_out = Outcome::SoldOut { sku: sku(1) };
        let placed = Some(Outcome::Placed);
        assert_eq!(outcomes(&plan), [Some(sold_out), Some(Outcome::Cancelled), placed.clone(), placed]);
        assert_eq!(plan.sold, BTreeMap::from([(1, 4), (2, 4)]));
        assert_eq!(plan.cancelled, [order_id(1)]);
    }

    #[test]
    fn a_row_that_ends_as_it_was_is_not_written() {
        let requests = [Sketch::place(1, 1, &[(0, 2)]).request(), Sketch::cancel(2, 1).request()];
        let plan = plan(&requests, facts(4));
        assert_eq!(outcomes(&plan), [Some(Outcome::Placed), Some(Outcome::Cancelled)]);
        assert_eq!((plan.sold, plan.cancelled), (BTreeMap::new(), vec![order_id(1)]));
    }

    #[test]
    fn a_settled_key_decides_before_anything_else_is_looked_at() {
        let request = Sketch::place(1, 1, &[(0, 2)]).request();
        let settled = Settled {
            order: order_id(9),
            fingerprint: request.fingerprint,
            outcome: Outcome::WrongCurrency,
            position: 7,
            committed_at: AT,
        };
        let facts = |settled: &Settled| Facts {
            settled: HashMap::from([(request.key, settled.clone())]),
            ..Facts::default()
        };
        let replay = plan(std::slice::from_ref(&request), facts(&settled));
        assert_eq!(replay.decisions, [Decision::Replay(settled.clone())]);
        let other = Settled { fingerprint: [0xff; 32], ..settled };
        assert_eq!(plan(std::slice::from_ref(&request), facts(&other)).decisions, [Decision::KeyReused]);
    }

    #[test]
    fn a_key_that_settled_nothing_is_free_for_the_next_request() {
        let requests = [Sketch::cancel(1, 5).request(), Sketch::place(1, 1, &[(0, 1)]).request()];
        let plan = plan(&requests, facts(1));
        assert_eq!(plan.decisions[0], Decision::NotFound);
        assert_eq!(outcomes(&plan)[1], Some(Outcome::Placed));
    }

    #[test]
    fn a_line_s_mistakes_are_named_in_the_order_of_the_lines() {
        let changed =
            Body::Place { lines: BTreeMap::from([(0, 9), (1, 1)]), price: PRICE + 1, currency: "KRW" };
        let unknown = Body::Place { lines: BTreeMap::from([(1, 1)]), price: PRICE, currency: "KRW" };
        let foreign = Body::Place { lines: BTreeMap::from([(1, 1)]), price: PRICE, currency: "JPY" };
        let requests = (1..).zip([changed, unknown, foreign]);
        let requests: Vec<Request> =
            requests.map(|(n, body)| Sketch { key: n, order: n, body }.request()).collect();
        let changed = Outcome::PriceChanged { sku: sku(0), price: money(PRICE, "KRW") };
        let unknown = Outcome::UnknownSku { sku: sku(1) };
        let plan = plan(&requests, facts(1));
        assert_eq!(outcomes(&plan), [Some(changed), Some(unknown), Some(Outcome::WrongCurrency)]);
        assert!(plan.sold.is_empty());
    }

    fn sketches() -> impl Strategy<Value = Vec<Sketch>> {
        let lines = prop::collection::btree_map(0..4_u8, 1..4_u8, 1..4);
        let price = prop_oneof![9 => Just(PRICE), 1 => Just(PRICE + 1)];
        let currency = prop_oneof![9 => Just("KRW"), 1 => Just("JPY")];
        let place =
            (0..12_u8, 0..12_u8, lines, price, currency).prop_map(|(key, order, lines, price, currency)| {
                Sketch { key, order, body: Body::Place { lines, price, currency } }
            });
        let cancel = (0..12_u8, 0..12_u8).prop_map(|(key, order)| Sketch::cancel(key, order));
        prop::collection::vec(prop_oneof![3 => place, 1 => cancel], 1..30)
    }

    proptest! {
        #[test]
        fn a_batch_ends_exactly_as_its_requests_one_by_one(
            stock in prop::collection::vec(0..12_i64, 3),
            earlier in sketches(),
            batch in sketches(),
        ) {
            let (mut whole, mut single) = (ledger(&stock), ledger(&stock));
            commit(&mut whole, &earlier);
            for sketch in &earlier {
                commit(&mut single, std::slice::from_ref(sketch));
            }
            let answers = commit(&mut whole, &batch);
            let one_by_one: Vec<RequestOutcome> =
                batch.iter().flat_map(|sketch| commit(&mut single, std::slice::from_ref(sketch))).collect();
            prop_assert_eq!(answers, one_by_one);
            prop_assert!(whole.outcomes().eq(single.outcomes()));
            prop_assert!(whole.orders().eq(single.orders()));
            prop_assert_eq!(whole.invariants(), Ok(()));
        }
    }
}
