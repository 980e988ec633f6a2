//! Tests of a batch with orders of a launch.

use bridge_protocol::domain::{Brand, Currency, IdempotencyKey, Line, Money, OrderTerms, Quantity, Sku};

use super::*;
use crate::orders::planner::{Action, Awaited, Decision, Offer, Placement, Plan, Request, plan};
use crate::vault::PersonalAtRest;

const AT: UnixMicros = UnixMicros::new(1_795_343_485_000_000);
const LAUNCH: i64 = 9;

fn brand() -> Brand {
    Brand::new("acme").unwrap()
}

fn sku(n: u8) -> Sku {
    Sku::new(&format!("S{n}")).unwrap()
}

fn order_id(n: u8) -> OrderId {
    OrderId::new(AT, [n; 10])
}

fn won() -> Currency {
    Currency::new("KRW").unwrap()
}

fn customer(n: u8) -> CustomerTag {
    CustomerTag::from_bytes([n; 32])
}

fn request(n: u8, action: Action) -> Request {
    let key = IdempotencyKey::parse(format!("k{n}").as_bytes()).unwrap().digest(&brand());
    Request { brand: brand(), key, fingerprint: [n; 32], action }
}

/// Returns an order of these units of SKUs. `n` is its key and its id.
fn place(n: u8, of: u8, lines: &[(u8, i64)]) -> Request {
    let line = |(n, units): &(u8, i64)| Line {
        sku: sku(*n),
        quantity: Quantity::new(*units).unwrap(),
        unit_price: 10,
    };
    let lines: Vec<Line> = lines.iter().map(line).collect();
    let money = |amount| Money::new(amount, won()).unwrap();
    let total = money(lines.iter().map(|line| line.quantity.get() * 10).sum());
    let placement = Placement {
        order: order_id(n),
        terms: OrderTerms::new(lines, money(0), total, "c".to_owned(), 9).unwrap(),
        customer: customer(of),
        personal: PersonalAtRest { key_version: 1, wrapped_key: Vec::new(), fields: Default::default() },
    };
    request(n, Action::Place(Box::new(placement)))
}

fn cancel(n: u8, order: u8) -> Request {
    request(n, Action::Cancel { order: order_id(order) })
}

fn open_launch() -> SkuLaunch {
    SkuLaunch {
        launch_id: LAUNCH,
        opens_at: AT,
        is_open: true,
        customer_limit: 2,
        sku_limit: None,
        units_left: None,
    }
}

/// Returns the facts of a brand whose SKUs 0 and 1 are sold by a launch, and SKU 2 by none. Each
/// has so many units.
fn facts(launch: SkuLaunch, available: i64) -> Facts {
    let price = Money::new(10, won()).unwrap();
    let offer =
        |n: u8| Offer { sku_id: i64::from(n), price, available, launch: Some(launch).filter(|_| n < 2) };
    Facts {
        brands: HashMap::from([(brand(), won())]),
        offers: HashMap::from([(brand(), (0..3).map(|n| (sku(n), offer(n))).collect())]),
        ..Facts::default()
    }
}

fn codes(plan: &Plan) -> Vec<&str> {
    plan.decisions.iter().map(code).collect()
}

fn code(decision: &Decision) -> &str {
    match decision {
        Decision::New { outcome, .. } => outcome.code(),
        other => panic!("{other:?}"),
    }
}

fn limit_reached(n: u8, limit: i64, bought: i64) -> Outcome {
    Outcome::RefusedByLaunch { sku: sku(n), reason: LaunchRefusal::LimitReached { limit, bought } }
}

fn outcome_of(plan: &Plan, index: usize) -> Outcome {
    let Decision::New { outcome, .. } = &plan.decisions[index] else { panic!("{plan:?}") };
    outcome.clone()
}

#[test]
fn a_customers_units_count_over_orders_and_skus_of_the_batch() {
    let batch = [
        place(1, 1, &[(0, 1)]),
        place(2, 1, &[(1, 1), (2, 5)]),
        place(3, 1, &[(0, 1)]),
        place(4, 2, &[(0, 2)]),
    ];
    let decided = plan(&batch, facts(open_launch(), 10));
    assert_eq!(codes(&decided), ["placed", "placed", "limit-reached", "placed"]);
    assert_eq!(outcome_of(&decided, 2), limit_reached(0, 2, 2));
    assert_eq!(decided.launches.sold, BTreeMap::from([(LAUNCH, 4)]), "SKU 2 is of no launch");
    assert_eq!(decided.launches.purchases.len(), 3);
    // In one order too: nothing of it is allocated.
    let decided = plan(&[place(1, 1, &[(2, 1), (0, 1), (1, 2)])], facts(open_launch(), 10));
    assert_eq!(outcome_of(&decided, 0), limit_reached(1, 2, 0));
    assert_eq!((decided.sold.len(), decided.launches), (0, LaunchPlan::default()));
}

#[test]
fn earlier_purchases_count_and_cancelled_ones_come_back() {
    let bought = HashMap::from([((LAUNCH, customer(1)), HashMap::from([(0, 1), (1, 1)]))]);
    let purchases = |facts: Facts| Facts { purchases: bought.clone(), ..facts };
    let decided = plan(&[place(1, 1, &[(0, 1)])], purchases(facts(open_launch(), 10)));
    assert_eq!(outcome_of(&decided, 0), limit_reached(0, 2, 2));

    let earlier = LaunchUnits { launch_id: LAUNCH, customer: customer(1), sku_id: 1, units: 1 };
    let standing = crate::orders::planner::StandingOrder {
        brand: brand(),
        state: crate::orders::planner::Standing::Placed,
        units: vec![(1, 1)],
        from_launches: vec![earlier],
    };
    let mut facts = purchases(facts(open_launch(), 10));
    facts.orders.insert(order_id(7), standing);
    let decided = plan(&[cancel(1, 7), cancel(2, 7), place(3, 1, &[(0, 1)]), cancel(4, 3)], facts);
    assert_eq!(codes(&decided), ["cancelled", "cancelled", "placed", "cancelled"]);
    assert_eq!(decided.launches.given_back, [order_id(7), order_id(3)], "each once");
    assert_eq!(decided.launches.sold, BTreeMap::from([(LAUNCH, -1)]));
}

#[test]
fn a_skus_own_limit_and_the_units_in_all_hold_as_well() {
    let launch = SkuLaunch { sku_limit: Some(1), customer_limit: 9, units_left: Some(4), ..open_launch() };
    let batch = [
        place(1, 1, &[(0, 2)]),
        place(2, 1, &[(0, 1), (1, 1)]),
        place(3, 2, &[(0, 1), (1, 1)]),
        place(4, 3, &[(0, 1)]),
        cancel(5, 3),
        place(6, 3, &[(0, 1)]),
    ];
    let decided = plan(&batch, facts(launch, 10));
    assert_eq!(codes(&decided), ["limit-reached", "placed", "placed", "sold-out", "cancelled", "placed"]);
    assert_eq!(outcome_of(&decided, 0), limit_reached(0, 1, 0));
    assert_eq!(decided.launches.sold, BTreeMap::from([(LAUNCH, 3)]));
}

#[test]
fn a_refusal_names_the_limit_that_leaves_the_fewest_units() {
    let launch = SkuLaunch { sku_limit: Some(3), customer_limit: 4, ..open_launch() };
    let bought = |of_sku, of_other| {
        let units = HashMap::from([(0, of_sku), (1, of_other)]);
        let purchases = HashMap::from([((LAUNCH, customer(1)), units)]);
        Facts { purchases, ..facts(launch, 10) }
    };
    let refusal = |facts: Facts, lines: &[(u8, i64)]| outcome_of(&plan(&[place(1, 1, lines)], facts), 0);
    assert_eq!(refusal(bought(0, 3), &[(0, 4)]), limit_reached(0, 4, 3), "both refuse, one unit is left");
    assert_eq!(refusal(bought(2, 0), &[(0, 2)]), limit_reached(0, 3, 2), "the SKU's limit alone refuses");
    assert_eq!(refusal(bought(0, 2), &[(0, 3)]), limit_reached(0, 4, 2), "the launch's limit alone refuses");
    let both = refusal(bought(0, 0), &[(1, 3), (0, 2)]);
    assert_eq!(both, limit_reached(0, 3, 0), "the SKU's limit leaves fewer, though it does not refuse");
    assert_eq!(refusal(bought(0, 1), &[(0, 4)]), limit_reached(0, 3, 0), "both leave three");
    assert_eq!(refusal(bought(5, 0), &[(0, 1)]), limit_reached(0, 3, 5), "a limit that was lowered");
}

/// An order of as many units of the SKU as a refusal leaves is placed, and one more is not.
#[test]
fn the_units_that_a_refusal_leaves_can_be_bought() {
    for n in 0..4_i64.pow(5) {
        let digit = |place| n / 4_i64.pow(place) % 4;
        let launch =
            SkuLaunch { sku_limit: Some(1 + digit(0)), customer_limit: 1 + digit(1), ..open_launch() };
        let units = HashMap::from([(0, digit(2)), (1, digit(3))]);
        let purchases = HashMap::from([((LAUNCH, customer(1)), units)]);
        let facts = Facts { purchases, ..facts(launch, 10) };
        let wanted = |units| outcome_of(&plan(&[place(1, 1, &[(0, units)])], facts.clone()), 0);
        let Outcome::RefusedByLaunch { reason: LaunchRefusal::LimitReached { limit, bought }, .. } =
            wanted(1 + digit(4))
        else {
            continue;
        };
        let left = (limit - bought).max(0);
        assert!(left < 1 + digit(4), "case {n}: {left} left");
        assert!(left == 0 || wanted(left) == Outcome::Placed, "case {n}: {left} left");
        assert_ne!(wanted(left + 1), Outcome::Placed, "case {n}: {left} left");
    }
}

#[test]
fn nothing_is_sold_before_the_opening_and_no_lock_is_needed() {
    let launch = SkuLaunch { is_open: false, ..open_launch() };
    let decided =
        plan(&[place(1, 1, &[(0, 1)])], Facts { held_launches: [LAUNCH].into(), ..facts(launch, 10) });
    let reason = LaunchRefusal::NotOpen { opens_at: AT };
    assert_eq!(outcome_of(&decided, 0), Outcome::RefusedByLaunch { sku: sku(0), reason });
}

#[test]
fn only_what_needs_a_held_launch_waits() {
    let held = Facts { held_launches: [LAUNCH].into(), ..facts(open_launch(), 10) };
    let batch = [place(1, 1, &[(0, 1)]), place(2, 1, &[(2, 1)])];
    let decided = plan(&batch, held);
    let waits = Decision::Waits(Awaited::Launch { brand: brand(), launch_id: LAUNCH });
    assert_eq!(decided.decisions[0], waits);
    assert_eq!(outcome_of(&decided, 1), Outcome::Placed);
}
