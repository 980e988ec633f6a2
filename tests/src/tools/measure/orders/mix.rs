//! The mixes of orders: one hot SKU, a launch, all SKUs alike, and real invoices.

use std::path::Path;

use anyhow::{Context, Result};

use crate::testkit::generated;
use crate::testkit::plan::{OrderStep, Plan, Step, StockRow};
use crate::testkit::retail::{self, Book, Days};

/// The real invoices. They may be missing on this machine.
const INVOICES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/online-retail");
/// Number of different orders in a mix.
const ORDERS: usize = 4_000;
/// Units of each SKU. No run sells as many.
const AMPLE: u64 = 1_000_000_000;
const SEED: u64 = 7;

/// A kind of demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mix {
    /// Every order is one unit of the same SKU.
    HotSku,
    /// 87 % of the orders want one product, and 11 % one of its sizes.
    Launch,
    /// Every order is one unit, of all SKUs by turns.
    Uniform,
    /// Real invoices, with 26 lines on average and 1,110 at most.
    Invoices,
}

/// Orders of a mix, to be placed again and again under new keys.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    pub(super) mix: Mix,
    pub(super) brand: &'static str,
    pub(super) currency: &'static str,
    pub(super) stock: Vec<StockRow>,
    pub(super) steps: Vec<OrderStep>,
}

impl Orders {
    /// Makes the orders of a mix. Returns [`None`] if they need data that this machine lacks.
    pub(super) fn of(mix: Mix) -> Result<Option<Orders>> {
        let (brand, plan) = match mix {
            Mix::HotSku => ("hot", generated::hot(SEED, ORDERS)),
            Mix::Launch => ("launch", generated::launch_mix("launch", SEED, ORDERS)),
            Mix::Uniform => ("uniform", generated::spread("uniform", SEED, ORDERS)),
            Mix::Invoices => {
                let dir = Path::new(INVOICES);
                if !dir.is_dir() {
                    return Ok(None);
                }
                let retail = retail::read(dir, &Days::All).context("read the invoices")?;
                ("invoices", retail::plan(&retail, &Book::of(&retail), "invoices", SEED))
            }
        };
        let steps = plan.steps.into_iter().filter_map(|step| match step {
            Step::Place(order) => Some(order),
            Step::Cancel { .. } => None,
        });
        let steps = steps.take(ORDERS).collect();
        let stock = plan.stock.into_iter().map(|row| StockRow { quantity: AMPLE, ..row }).collect();
        Ok(Some(Orders { mix, brand, currency: plan.currency, stock, steps }))
    }

    /// Makes a plan of `count` orders. `keys` begins all their idempotency keys, so no two plans
    /// may have the same.
    pub(super) fn plan(&self, keys: &str, count: usize) -> Plan {
        let steps = self.steps.iter().cycle().take(count).enumerate().map(|(index, order)| {
            let OrderStep { body, lines, total_minor, .. } = order;
            Step::Place(OrderStep {
                key: format!("{keys}-{index}"),
                body: body.clone(),
                lines: lines.clone(),
                total_minor: *total_minor,
                planted: Vec::new(),
            })
        });
        let (brand, currency) = (self.brand.to_owned(), self.currency);
        Plan { brand, currency, stock: self.stock.clone(), steps: steps.collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_mix_is_placed_again_and_again_under_new_keys() {
        for mix in [Mix::HotSku, Mix::Launch, Mix::Uniform] {
            let orders = Orders::of(mix).expect("made").expect("no data needed");
            let plans = [orders.plan("one", 5_000), orders.plan("two", 5_000)];
            let keys: HashSet<_> =
                plans.iter().flat_map(|plan| plan.places()).map(|(_, place)| place.key.clone()).collect();
            assert_eq!(keys.len(), 10_000, "{mix:?}");
            assert_eq!((plans[0].brand.as_str(), plans[0].currency), (orders.brand, "KRW"));
            assert!(plans[0].stock.iter().all(|row| row.quantity == AMPLE));
        }
    }
}
