//! Comparison of the stock that the cloud agent serves over HTTP with the ledger, for every SKU on
//! sale.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Deserialize;
use tokio::time::sleep;

use crate::testkit::http::{Client, percent_encoded};
use crate::testkit::ledger_totals::LedgerTotals;
use crate::testkit::plan::Plan;
use crate::testkit::site::Site;

/// Longest time for the replica to catch up with the last commit.
const PATIENCE: Duration = Duration::from_secs(10);
/// SKUs in one request. It is the API's limit.
const BATCH: usize = 100;

/// Returns the differences between the replica and the ledger; none if both agree.
pub(super) async fn differences(site: &Site, plan: &Plan, ledger: &LedgerTotals) -> Result<Vec<String>> {
    let mut storefront = Client::new(site.storefront);
    let give_up = Instant::now() + PATIENCE;
    loop {
        let served = served(&mut storefront, plan).await?;
        let found = compare(plan, ledger, &served);
        if found.is_empty() || Instant::now() >= give_up {
            return Ok(found);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[derive(Deserialize)]
struct Stock {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    sku: String,
    available: i64,
}

/// Returns the stock of a plan's SKUs that the storefront serves.
async fn served(storefront: &mut Client, plan: &Plan) -> Result<BTreeMap<String, i64>> {
    let mut served = BTreeMap::new();
    for rows in plan.stock.chunks(BATCH) {
        let skus: Vec<_> = rows.iter().map(|row| percent_encoded(&row.sku)).collect();
        let answer =
            storefront.get(&format!("/v1/{}/stock?sku={}", plan.brand, skus.join(",")), None).await?;
        ensure!(
            answer.status.is_success(),
            "the storefront answers {} to a question for stock",
            answer.status
        );
        let stock: Stock = serde_json::from_slice(&answer.body)?;
        served.extend(stock.items.into_iter().map(|item| (item.sku, item.available)));
    }
    Ok(served)
}

fn compare(plan: &Plan, ledger: &LedgerTotals, served: &BTreeMap<String, i64>) -> Vec<String> {
    let mut found = Vec::new();
    for row in &plan.stock {
        let held = ledger.stock.get(&row.sku).map(|shelf| shelf.available);
        let served = served.get(&row.sku).copied();
        if held != served {
            let say = |units: Option<i64>| units.map_or("none".to_owned(), |units| units.to_string());
            found.push(format!(
                "units of {} available: {} in the ledger, {} served",
                row.sku,
                say(held),
                say(served)
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::generated;
    use crate::testkit::ledger_totals::SkuTotals;

    #[test]
    fn a_sku_that_is_served_otherwise_or_not_at_all_is_told() {
        let mut plan = generated::hot(1, 1);
        plan.stock.truncate(3);
        let skus: Vec<_> = plan.stock.iter().map(|row| row.sku.clone()).collect();
        let shelf = SkuTotals { initial: 9, available: 7, sold: 2, ordered: 2 };
        let stock = skus.iter().map(|sku| (sku.clone(), shelf)).collect();
        let ledger = LedgerTotals { stock, ..LedgerTotals::default() };
        let mut served: BTreeMap<_, _> = skus.iter().map(|sku| (sku.clone(), 7)).collect();
        assert_eq!(compare(&plan, &ledger, &served), Vec::<String>::new());
        served.insert(skus[0].clone(), 8);
        served.remove(&skus[1]);
        let expected = [
            format!("units of {} available: 7 in the ledger, 8 served", skus[0]),
            format!("units of {} available: 7 in the ledger, none served", skus[1]),
        ];
        assert_eq!(compare(&plan, &ledger, &served), expected);
    }
}
