//! A made-up launch, for machines without the real data. It sells the offers of a given catalogue,
//! or 200 SKUs of brand `demo` in KRW, one of which is hot and scarce.
//!
//! `personal` makes the persons, and `load` replays the [`Plan`]. Everything depends on the seed
//! alone.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::testkit::personal::Person;
use crate::testkit::plan::{Line, Plan, Step, StockRow};

/// Number of SKUs of a made-up brand.
const SKUS: usize = 200;
/// Number of sizes of a launched product. They are the first SKUs.
const SIZES: usize = 12;
/// Shipping fee in won.
const SHIPPING: u64 = 3_000;

/// Makes a launch of `orders` orders. Every second order wants the hot SKU, and the stock is enough
/// for a third of those. One order in fifty is cancelled some orders later.
#[must_use]
pub fn launch(seed: u64, orders: usize) -> Plan {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let plan = shelves(&mut rng, "demo", ample(orders));
    launch_on(&mut rng, plan, &[0], seed, orders)
}

/// Makes a launch with the stock of `brand`. Every second order wants one of the SKUs at the
/// indices `hot` (some, but not all SKUs). The quantities in `stock` are replaced: those of the hot
/// SKUs are scarce.
#[must_use]
pub fn launch_of(brand: &str, stock: Vec<StockRow>, hot: &[usize], seed: u64, orders: usize) -> Plan {
    let quantity = ample(orders);
    let stock = stock.into_iter().map(|row| StockRow { quantity, ..row }).collect();
    let plan = Plan { brand: brand.to_owned(), currency: "KRW", stock, steps: Vec::new() };
    launch_on(&mut ChaCha8Rng::seed_from_u64(seed), plan, hot, seed, orders)
}

fn launch_on(rng: &mut ChaCha8Rng, mut plan: Plan, hot: &[usize], seed: u64, orders: usize) -> Plan {
    for index in hot {
        plan.stock[*index].quantity = (orders as u64 / 6 / hot.len() as u64).max(1);
    }
    let calm: Vec<_> = (0..plan.stock.len()).filter(|index| !hot.contains(index)).collect();
    let mut waiting = Vec::new();
    for index in 0..orders {
        let wants_hot = index % 2 == 0;
        let mut lines = Vec::new();
        if wants_hot {
            // With only one hot SKU, no number is drawn.
            let chosen = if hot.len() > 1 { rng.random_range(0..hot.len()) } else { 0 };
            lines.push(Line { stock: hot[chosen], quantity: 1 });
        }
        for _ in 0..rng.random_range(usize::from(!wants_hot)..4) {
            let stock = calm[rng.random_range(0..calm.len())];
            add(&mut lines, Line { stock, quantity: rng.random_range(1..4) });
        }
        if rng.random_ratio(1, 50) {
            waiting.push(plan.steps.len());
        }
        order(&mut plan, "launch", seed, index, lines);
        if waiting.first().is_some_and(|of| of + 100 <= index) {
            let of = waiting.remove(0);
            plan.steps.push(Step::Cancel { key: format!("cancel-{seed}-{of}"), of });
        }
    }
    plan
}

/// Makes `orders` orders of one unit of the same SKU, with enough stock for all.
#[must_use]
pub fn hot(seed: u64, orders: usize) -> Plan {
    let mut plan = shelves(&mut ChaCha8Rng::seed_from_u64(seed), "hot", ample(orders));
    for index in 0..orders {
        order(&mut plan, "hot", seed, index, vec![Line { stock: 0, quantity: 1 }]);
    }
    plan
}

/// Makes `orders` orders of one unit, spread evenly over all SKUs of `brand`, with enough stock for
/// all.
#[must_use]
pub fn spread(brand: &str, seed: u64, orders: usize) -> Plan {
    let mut plan = shelves(&mut ChaCha8Rng::seed_from_u64(seed), brand, ample(orders));
    for index in 0..orders {
        order(&mut plan, brand, seed, index, vec![Line { stock: index % SKUS, quantity: 1 }]);
    }
    plan
}

/// Makes `orders` orders of one unit, as a launch of one product brings them: 87 % want the
/// product, and 11 % one of its sizes. The shares are those of a real drop. All SKUs have enough
/// stock for all.
#[must_use]
pub fn launch_mix(brand: &str, seed: u64, orders: usize) -> Plan {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut plan = shelves(&mut rng, brand, ample(orders));
    for index in 0..orders {
        let stock = match rng.random_range(0..100) {
            0..11 => 0,
            11..87 => rng.random_range(1..SIZES),
            _ => rng.random_range(SIZES..SKUS),
        };
        order(&mut plan, brand, seed, index, vec![Line { stock, quantity: 1 }]);
    }
    plan
}

/// Returns a quantity that `orders` orders cannot use up.
fn ample(orders: usize) -> u64 {
    orders as u64 * 10 + 1
}

fn shelves(rng: &mut ChaCha8Rng, brand: &str, quantity: u64) -> Plan {
    let stock = (0..SKUS)
        .map(|index| StockRow {
            sku: format!("DV{:04}-{:03}", 1_000 + index, rng.random_range(100..999)),
            price_minor: rng.random_range(9..400) * 1_000,
            quantity,
        })
        .collect();
    Plan { brand: brand.to_owned(), currency: "KRW", stock, steps: Vec::new() }
}

/// Adds units to an order. An order has at most one line for a SKU.
fn add(lines: &mut Vec<Line>, line: Line) {
    match lines.iter_mut().find(|known| known.stock == line.stock) {
        Some(known) => known.quantity += line.quantity,
        None => lines.push(line),
    }
}

fn order(plan: &mut Plan, name: &str, seed: u64, index: usize, lines: Vec<Line>) {
    let person = Person::made_up(seed, index as u64, format!("c-{index}"));
    let step = plan.place(format!("{name}-{seed}-{index}"), lines, SHIPPING, &person);
    plan.steps.push(step);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bridge_protocol::domain::body::OrderRequest;

    use super::*;

    #[test]
    fn the_hot_sku_of_a_launch_is_scarce_and_nothing_else_is() {
        let plan = launch(1, 600);
        let mut wanted = vec![0; plan.stock.len()];
        for (_, place) in plan.places() {
            place.lines.iter().for_each(|line| wanted[line.stock] += line.quantity);
        }
        assert!(wanted[0] >= 2 * plan.stock[0].quantity, "{} of {}", wanted[0], plan.stock[0].quantity);
        assert!((1..wanted.len()).all(|sku| wanted[sku] <= plan.stock[sku].quantity));
    }

    #[test]
    fn a_launch_of_several_skus_wants_more_than_all_of_them() {
        let shelves = shelves(&mut ChaCha8Rng::seed_from_u64(1), "any", 0).stock;
        let plan = launch_of("shoes", shelves, &[3, 5, 8], 1, 900);
        assert_eq!(plan.brand, "shoes");
        let mut wanted = vec![0; plan.stock.len()];
        for (_, place) in plan.places() {
            place.lines.iter().for_each(|line| wanted[line.stock] += line.quantity);
        }
        for (index, row) in plan.stock.iter().enumerate() {
            assert_eq!(wanted[index] > row.quantity, [3, 5, 8].contains(&index), "{index}");
        }
    }

    #[test]
    fn a_launch_keeps_the_rules_of_an_order() {
        let plan = launch(2, 600);
        assert_eq!(plan.places().count(), 600);
        let keys: HashSet<_> = plan.places().map(|(_, place)| &place.key).collect();
        assert_eq!(keys.len(), 600, "keys are unique");
        for (_, place) in plan.places() {
            let skus: HashSet<_> = place.lines.iter().map(|line| line.stock).collect();
            assert!(
                !place.lines.is_empty() && skus.len() == place.lines.len(),
                "a SKU stands once in an order"
            );
        }
    }

    #[test]
    fn a_launch_mix_is_mostly_one_product_and_one_size_of_it() {
        let plan = launch_mix("shoes", 1, 10_000);
        let of = |skus: std::ops::Range<usize>| {
            plan.places().filter(|(_, place)| skus.contains(&place.lines[0].stock)).count()
        };
        assert!((1_000..1_200).contains(&of(0..1)), "{}", of(0..1));
        assert!((8_600..8_800).contains(&of(0..SIZES)), "{}", of(0..SIZES));
        assert!((1..SIZES).all(|size| (500..900).contains(&of(size..size + 1))));
    }

    #[test]
    fn bridge_reads_every_made_up_order_without_a_complaint() {
        for plan in [launch(4, 300), hot(4, 20), spread("even", 4, 20), launch_mix("shoes", 4, 20)] {
            for (_, place) in plan.places() {
                OrderRequest::parse(&place.body, 2_000).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
            }
        }
    }

    #[test]
    fn a_cancellation_names_an_order_that_stands_before_it() {
        let plan = launch(3, 2_000);
        let mut cancelled = HashSet::new();
        for (index, step) in plan.steps.iter().enumerate() {
            if let Step::Cancel { of, .. } = step {
                assert!(*of < index && matches!(plan.steps[*of], Step::Place(_)) && cancelled.insert(*of));
            }
        }
        assert!(!cancelled.is_empty());
    }

    #[test]
    fn the_same_seed_is_the_same_launch() {
        let bodies =
            |seed| launch(seed, 50).places().map(|(_, place)| place.body.clone()).collect::<Vec<_>>();
        assert_eq!(bodies(4), bodies(4));
        assert_ne!(bodies(4), bodies(5));
    }

    #[test]
    fn stock_is_written_as_the_csv_that_the_import_reads() {
        let csv = String::from_utf8(hot(1, 10).stock_csv().expect("csv")).expect("UTF-8");
        let mut lines = csv.lines();
        assert_eq!(lines.next(), Some("brand,sku,unit_price,currency,quantity"));
        assert_eq!(csv.lines().count(), 1 + SKUS);
        assert!(lines.all(|line| line.starts_with("hot,DV") && line.ends_with(",KRW,101")));
    }
}
