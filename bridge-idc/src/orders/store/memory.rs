//! A model of the ledger in plain maps, for tests. It uses the real planner, and has no database
//! and no time.

use std::collections::{BTreeMap, HashMap, HashSet};

use bridge_protocol::domain::{Brand, Currency, KeyDigest, Money, OrderId, Sku, UnixMicros};
use bridge_protocol::wire::order::Refusal;

use super::{Batch, Committed, RequestEnd, RequestOutcome};
use crate::orders::planner::{
    self, Action, Decision, Facts, Offer, Plan, Request, Settled, Standing, StandingOrder,
};

/// A SKU that the model sells.
#[derive(Debug, Clone)]
pub struct ForSale {
    /// Brand of the SKU.
    pub brand: Brand,
    /// The SKU.
    pub sku: Sku,
    /// Price of one unit. Its currency is the brand's.
    pub price: Money,
    /// Units for sale.
    pub units: i64,
}

/// The model.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    state: State,
}

/// An outcome of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryOutcome {
    /// Brand of the order.
    pub brand: Brand,
    /// True if the outcome placed or rejected an order, false if it cancelled one.
    pub places: bool,
    /// The outcome and its position.
    pub settled: Settled,
}

impl MemoryLedger {
    /// Creates a ledger with this stock.
    pub fn new(stock: impl IntoIterator<Item = ForSale>) -> Self {
        let mut state = State::default();
        for (sku_id, ForSale { brand, sku, price, units }) in (1..).zip(stock) {
            state.brands.insert(brand.clone(), price.currency());
            state.prices.entry(brand).or_default().insert(sku, (sku_id, price));
            state.stock.insert(sku_id, Stock { initial: units, available: units, sold: 0 });
        }
        Self { state }
    }

    /// Commits a batch as [`Ledger::commit`](super::Ledger::commit) does when no row is held.
    /// Returns one answer for each request.
    pub fn commit(&mut self, batch: &Batch) -> Vec<Committed> {
        let mut answers = Vec::with_capacity(batch.requests.len());
        self.state.commit(&batch.requests, batch.at, &mut answers);
        answers.into_iter().map(|answer| Committed { answer }).collect()
    }

    /// Returns every outcome with its key.
    pub fn outcomes(&self) -> impl Iterator<Item = (&KeyDigest, &MemoryOutcome)> {
        self.state.outcomes.iter()
    }

    /// Returns every order that was placed or rejected.
    pub fn orders(&self) -> impl Iterator<Item = (&OrderId, &StandingOrder)> {
        self.state.orders.iter()
    }

    /// Checks promises P2 and P3.
    ///
    /// # Errors
    ///
    /// Fails with a sentence that names the broken invariant.
    pub fn invariants(&self) -> Result<(), String> {
        self.state.invariants()
    }
}

#[derive(Debug, Clone, Default)]
struct State {
    brands: HashMap<Brand, Currency>,
    prices: HashMap<Brand, HashMap<Sku, (i64, Money)>>,
    stock: BTreeMap<i64, Stock>,
    outcomes: BTreeMap<KeyDigest, MemoryOutcome>,
    orders: BTreeMap<OrderId, StandingOrder>,
    last_position: i64,
}

#[derive(Debug, Clone, Copy)]
struct Stock {
    initial: i64,
    available: i64,
    sold: i64,
}

impl State {
    fn commit(&mut self, requests: &[Request], at: UnixMicros, answers: &mut Vec<RequestOutcome>) {
        let plan = planner::plan(requests, self.read(requests));
        if !self.breaks_a_key(requests, &plan) {
            answers.extend(self.write(requests, plan, at));
        } else if let [_] = requests {
            answers.push(RequestOutcome::Refused(Refusal::Failed));
        } else {
            let (first, second) = requests.split_at(requests.len() / 2);
            self.commit(first, at, answers);
            self.commit(second, at, answers);
        }
    }

    fn read(&self, requests: &[Request]) -> Facts {
        let mut facts = Facts { brands: self.brands.clone(), ..Facts::default() };
        for request in requests {
            if let Some(outcome) = self.outcomes.get(&request.key) {
                facts.settled.insert(request.key, outcome.settled.clone());
            }
            match &request.action {
                Action::Cancel { order } => {
                    facts.orders.extend(self.orders.get(order).map(|standing| (*order, standing.clone())));
                }
                Action::Place(placement) => {
                    let Some(prices) = self.prices.get(&request.brand) else { continue };
                    let offers = facts.offers.entry(request.brand.clone()).or_default();
                    for line in placement.terms.lines() {
                        let Some((sku_id, price)) = prices.get(&line.sku) else { continue };
                        let available = self.stock.get(sku_id).map_or(0, |stock| stock.available);
                        let offer = Offer { sku_id: *sku_id, price: *price, available, launch: None };
                        offers.insert(line.sku.clone(), offer);
                    }
                }
            }
        }
        facts
    }

    /// Returns true if an order id would be placed or rejected twice. In a database, a unique index
    /// refuses that.
    fn breaks_a_key(&self, requests: &[Request], plan: &Plan) -> bool {
        let mut seen = HashSet::new();
        requests.iter().zip(&plan.decisions).any(|(request, decision)| match (&request.action, decision) {
            (Action::Place(_), Decision::New { order, .. }) => {
                self.orders.contains_key(order) || !seen.insert(*order)
            }
            _ => false,
        })
    }

    fn write(&mut self, requests: &[Request], plan: Plan, at: UnixMicros) -> Vec<RequestOutcome> {
        let mut positions = HashMap::new();
        for (request, decision) in requests.iter().zip(&plan.decisions) {
            let Decision::New { order, outcome, sku_ids } = decision else { continue };
            self.last_position += 1;
            positions.insert(request.key, self.last_position);
            let settled = Settled {
                order: *order,
                fingerprint: request.fingerprint,
                outcome: outcome.clone(),
                position: self.last_position,
                committed_at: at,
            };
            if let Action::Place(placement) = &request.action {
                let state = if sku_ids.is_empty() { Standing::Rejected } else { Standing::Placed };
                let quantities = placement.terms.lines().iter().map(|line| line.quantity.get());
                let units = sku_ids.iter().copied().zip(quantities).collect();
                let brand = request.brand.clone();
                let standing = StandingOrder { brand, state, units, from_launches: Vec::new() };
                self.orders.insert(*order, standing);
            }
            let places = matches!(request.action, Action::Place(_));
            self.outcomes
                .insert(request.key, MemoryOutcome { brand: request.brand.clone(), places, settled });
        }
        for order in &plan.cancelled {
            if let Some(standing) = self.orders.get_mut(order) {
                standing.state = Standing::Cancelled;
            }
        }
        for (sku_id, units) in &plan.sold {
            if let Some(stock) = self.stock.get_mut(sku_id) {
                stock.available -= units;
                stock.sold += units;
            }
        }
        #[expect(clippy::expect_used, reason = "every new outcome was given its position above")]
        let ends = RequestEnd::of_plan(requests, at, &plan, &positions).expect("a position for every key");
        let answer = |end| match end {
            RequestEnd::Committed(committed) => committed.answer,
            // The model has no other session, so no row is held.
            _ => RequestOutcome::Refused(Refusal::Failed),
        };
        ends.into_iter().map(answer).collect()
    }

    fn invariants(&self) -> Result<(), String> {
        let mut allocated: HashMap<i64, i64> = HashMap::new();
        for standing in self.orders.values().filter(|standing| standing.state == Standing::Placed) {
            for (sku_id, units) in &standing.units {
                *allocated.entry(*sku_id).or_default() += units;
            }
        }
        for (sku_id, Stock { initial, available, sold }) in &self.stock {
            let counted = allocated.get(sku_id).copied().unwrap_or_default();
            if *available < 0 || *initial != available + sold || *sold != counted {
                return Err(format!(
                    "SKU row {sku_id}: initial {initial}, available {available}, sold {sold}, in orders {counted}"
                ));
            }
        }
        let placing = self.outcomes.values().filter(|outcome| outcome.places);
        let placing: Vec<OrderId> = placing.map(|outcome| outcome.settled.order).collect();
        let distinct: HashSet<&OrderId> = placing.iter().collect();
        if distinct.len() != placing.len() || distinct.len() != self.orders.len() {
            let (outcomes, orders) = (placing.len(), self.orders.len());
            return Err(format!("{outcomes} placing outcomes of {} orders, {orders} orders", distinct.len()));
        }
        match self.outcomes.values().find(|outcome| !self.orders.contains_key(&outcome.settled.order)) {
            Some(orphan) => Err(format!("an outcome of the unknown order {}", orphan.settled.order)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_for_sale() -> (MemoryLedger, Batch) {
        use bridge_protocol::domain::{IdempotencyKey, Line, OrderTerms, Quantity};

        let (brand, sku) = (Brand::new("acme").unwrap(), Sku::new("A").unwrap());
        let money = |amount| Money::new(amount, Currency::new("KRW").unwrap()).unwrap();
        let ledger = MemoryLedger::new([ForSale {
            brand: brand.clone(),
            sku: sku.clone(),
            price: money(7),
            units: 1,
        }]);
        let line = Line { sku, quantity: Quantity::new(1).unwrap(), unit_price: 7 };
        let at = UnixMicros::new(1_795_343_485_000_000);
        let placement = planner::Placement {
            order: OrderId::new(at, [1; 10]),
            terms: OrderTerms::new(vec![line], money(0), money(7), "c".to_owned(), 1).unwrap(),
            customer: planner::CustomerTag::from_bytes([1; 32]),
            personal: crate::vault::PersonalAtRest {
                key_version: 1,
                wrapped_key: Vec::new(),
                fields: Default::default(),
            },
        };
        let key = IdempotencyKey::parse(b"k").unwrap().digest(&brand);
        let request =
            Request { brand, key, fingerprint: [1; 32], action: Action::Place(Box::new(placement)) };
        (ledger, Batch { requests: vec![request], at })
    }

    #[test]
    fn the_checker_notices_units_that_no_order_has() {
        let (mut ledger, batch) = one_for_sale();
        ledger.commit(&batch);
        ledger.state.orders.clear();
        assert!(ledger.invariants().unwrap_err().contains("sold 1, in orders 0"));
    }
}
