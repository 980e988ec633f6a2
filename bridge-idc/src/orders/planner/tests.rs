//! Tests of the planner on a model of the ledger.

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
                customer: CustomerTag::from_bytes([1; 32]),
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
    let offer = Offer { sku_id: 1, price: money(PRICE, "KRW"), available, launch: None };
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
    let requests = [(1, 2), (2, 3), (3, 2)].map(|(n, units)| Sketch::place(n, n, &[(0, units)]).request());
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
    let offer = |sku_id| Offer { sku_id, price: money(PRICE, "KRW"), available: 4, launch: None };
    let standing =
        StandingOrder { brand: brand(), state, units: vec![(1, 1), (2, 3)], from_launches: vec![] };
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
    let placed =
        |held| Facts { held_orders: HashSet::from([order_id(held)]), ..facts_of_an_order(Standing::Placed) };
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
    let changed = Body::Place { lines: BTreeMap::from([(0, 9), (1, 1)]), price: PRICE + 1, currency: "KRW" };
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
