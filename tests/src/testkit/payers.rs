//! Shoppers who pay for their orders at a gateway with faults, and a comparison of the answers with
//! the gateway's books.
//!
//! A payer acts as a careful storefront: while the outcome is open, it asks, or sends the request
//! again under the same idempotency key.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::testkit::http::Client;
use crate::testkit::load::{self, Outcome};
use crate::testkit::plan::Step;
use crate::testkit::sandbox::{Rates, SECRET_KEY, Sandbox};
use crate::testkit::site::{Site, configure};

/// Most differences in a report. The others are only counted.
const TOLD: usize = 20;
/// Pause before a payer asks again.
const PAUSE: Duration = Duration::from_millis(50);

/// The amount that a shopper has to pay for an order.
#[derive(Clone, Debug)]
pub struct Bill {
    /// Id of the order.
    pub order: String,
    /// Amount in minor units.
    pub amount: u64,
    /// Currency of the amount.
    pub currency: &'static str,
}

/// Outcomes of all bills.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Paid {
    /// Payments that were requested.
    pub asked: u64,
    /// Payments that are certainly paid.
    pub paid: u64,
    /// Payments that were declined, or turned out not to be paid.
    pub declined: u64,
    /// Payments whose outcome was open at the end.
    pub unknown: u64,
    /// Payments that took more than one request.
    pub retried: u64,
    /// Orders that the gateway charged twice.
    pub doubled: u64,
    /// Differences between the gateway's books and the answers to payers.
    pub differences: Vec<String>,
}

/// A gateway for tests, which a site uses for payments.
pub struct TestGateway {
    /// The gateway with faults.
    pub sandbox: Sandbox,
}

/// End of one bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BillEnd {
    Paid,
    NotPaid,
    Unknown,
}

/// Returns a bill for each placed order that was not cancelled.
#[must_use]
pub fn bills(told: &load::Report) -> Vec<Bill> {
    let mut bills: Vec<Option<Bill>> = Vec::new();
    for (step, settled) in told.plan.steps.iter().zip(&told.settled) {
        let bill = match (step, &settled.outcome) {
            (Step::Place(place), Outcome::Placed { order }) => {
                Some(Bill { order: order.clone(), amount: place.total_minor, currency: told.plan.currency })
            }
            (Step::Cancel { of, .. }, Outcome::Cancelled) => {
                bills[*of] = None;
                None
            }
            _ => None,
        };
        bills.push(bill);
    }
    bills.into_iter().flatten().collect()
}

impl TestGateway {
    /// Starts a gateway and adds it to the IDC's configuration. Must be called before the agents
    /// start.
    ///
    /// # Errors
    ///
    /// Fails if the gateway cannot be started, or the configuration cannot be written.
    pub async fn open(site: &Site, rates: Rates) -> Result<TestGateway> {
        let sandbox = Sandbox::start(rates).await.context("start the gateway")?;
        let key = site.idc_dir().join("gateway.key");
        std::fs::write(&key, SECRET_KEY)?;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
        let (config, url) = (site.idc_dir().join("bridge-idc.toml"), sandbox.url());
        for (name, value) in [
            ("gateway", "sandbox"),
            ("base_url", url.as_str()),
            ("secret_key_file", "gateway.key"),
            // The agent soon gives up a request that hangs, so that a run ends.
            ("timeout", "1500ms"),
            ("retry_first", "50ms"),
            ("retry_max", "1s"),
        ] {
            configure(&config, &format!("payments.{name}"), value)?;
        }
        Ok(TestGateway { sandbox })
    }

    /// Pays all bills, `payers` at a time, each for at most `patience`. Then compares the outcomes
    /// with the gateway's books. `settled` receives the number of finished bills.
    pub async fn pay(
        &self,
        site: &Site,
        brand: &str,
        bills: Vec<Bill>,
        payers: usize,
        patience: Duration,
        settled: watch::Sender<usize>,
    ) -> Paid {
        let (bills, next) = (Arc::new(bills), Arc::new(AtomicUsize::new(0)));
        let mut everyone = JoinSet::new();
        for _ in 0..payers.max(1) {
            let (bills, next, settled) = (bills.clone(), next.clone(), settled.clone());
            let (token, orders) = (site.token(brand).to_owned(), format!("/v1/{brand}/orders"));
            let mut client = Client::new(site.storefront);
            everyone.spawn(async move {
                let mut ends = Vec::new();
                while let Some(bill) = bills.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (end, requests) = pay(&mut client, &token, &orders, bill, patience).await;
                    ends.push((bill.order.clone(), end, requests));
                    settled.send_modify(|count| *count += 1);
                }
                ends
            });
        }
        let ends = everyone.join_all().await.into_iter().flatten().collect();
        self.judge(&bills, ends)
    }

    fn judge(&self, bills: &[Bill], ends: Vec<(String, BillEnd, u32)>) -> Paid {
        let charges: HashMap<String, (u32, i64)> =
            self.sandbox.charges().into_iter().map(|one| (one.order, (one.charged, one.amount))).collect();
        let amounts: HashMap<&str, u64> =
            bills.iter().map(|bill| (bill.order.as_str(), bill.amount)).collect();
        let mut paid = Paid { asked: ends.len() as u64, ..Paid::default() };
        for (order, end, requests) in ends {
            let (charged, amount) = charges.get(&order).copied().unwrap_or((0, 0));
            let owed = amounts.get(order.as_str()).map_or(0, |owed| owed.cast_signed());
            paid.retried += u64::from(requests > 1);
            paid.doubled += u64::from(charged > 1);
            let agrees = match end {
                BillEnd::Paid => charged == 1 && amount == owed,
                BillEnd::NotPaid => charged == 0,
                BillEnd::Unknown => true,
            };
            if !agrees && paid.differences.len() < TOLD {
                paid.differences
                    .push(format!("order {order}: told {end:?}, charged {charged} times {amount}"));
            }
            *match end {
                BillEnd::Paid => &mut paid.paid,
                BillEnd::NotPaid => &mut paid.declined,
                BillEnd::Unknown => &mut paid.unknown,
            } += 1;
        }
        paid
    }
}

impl Paid {
    /// Returns true if every outcome is known, and the gateway's books agree.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.unknown == 0 && self.doubled == 0 && self.differences.is_empty()
    }
}

/// Pays one bill. Returns its end and the number of requests.
async fn pay(
    client: &mut Client,
    token: &str,
    orders: &str,
    bill: &Bill,
    patience: Duration,
) -> (BillEnd, u32) {
    let Bill { order, amount, currency } = bill;
    let (path, key) = (format!("{orders}/{order}/payments"), format!("pay-{order}"));
    let body =
        json!({"amount": {"amount": amount, "currency": currency}, "payment_key": format!("tgen_{order}")});
    let (deadline, mut requests, mut place) = (Instant::now() + patience, 0, None::<String>);
    while Instant::now() < deadline {
        requests += 1;
        let answer = match &place {
            Some(place) => client.get(place, Some(token)).await,
            None => client.post(&path, Some(token), Some(&key), body.to_string().into()).await,
        };
        if let Ok(answer) = answer {
            let state = answer.json()["state"].as_str().unwrap_or_default().to_owned();
            match (answer.status, state.as_str()) {
                (StatusCode::PAYMENT_REQUIRED, _) => return (BillEnd::NotPaid, requests),
                (_, "paid") => return (BillEnd::Paid, requests),
                (_, "declined" | "not_paid") => return (BillEnd::NotPaid, requests),
                (StatusCode::ACCEPTED, _) => place = answer.header("location").map(str::to_owned),
                // The payment does not exist after all. It may be requested again.
                (StatusCode::NOT_FOUND, _) => place = None,
                _ => {}
            }
        }
        sleep(PAUSE).await;
    }
    (BillEnd::Unknown, requests)
}
