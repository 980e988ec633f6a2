//! Shoppers who pay for their orders, at a gateway that misbehaves; and whether the gateway's books say the same as they were
//! told.
//!
//! A payer does what a careful storefront does: whatever leaves the outcome open it asks about, or sends again under the same
//! idempotency key.

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

/// Differences that are told; the rest is counted.
const TOLD: usize = 20;
/// Before a payer asks again.
const PAUSE: Duration = Duration::from_millis(50);

/// What a shopper has to pay.
#[derive(Clone, Debug)]
pub struct Bill {
    /// For which order.
    pub order: String,
    /// Minor units.
    pub amount: u64,
    /// Of which currency.
    pub currency: &'static str,
}

/// What became of the bills.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Paid {
    /// Payments asked for.
    pub asked: u64,
    /// Paid, for certain.
    pub paid: u64,
    /// Declined, or found not to have been paid.
    pub declined: u64,
    /// Nobody knew when patience was over.
    pub unknown: u64,
    /// Payments that took more than one request.
    pub retried: u64,
    /// Orders that the gateway charged twice.
    pub doubled: u64,
    /// Where the gateway's books say something else than the payer was told.
    pub differences: Vec<String>,
}

/// The gateway, and the bridge's way to it.
pub struct TestGateway {
    /// The gateway.
    pub sandbox: Sandbox,
}

/// How one bill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BillEnd {
    Paid,
    NotPaid,
    Unknown,
}

/// What a placed order that stands costs.
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
    /// Starts a gateway and tells the IDC's configuration of it; before the agents start.
    ///
    /// # Errors
    /// When it cannot be started or the configuration not be written.
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
            // A gateway that hangs is given up soon, so that a run ends.
            ("timeout", "1500ms"),
            ("retry_first", "50ms"),
            ("retry_max", "1s"),
        ] {
            configure(&config, &format!("payments.{name}"), value)?;
        }
        Ok(TestGateway { sandbox })
    }

    /// Lets everyone pay, `payers` at a time, each with so much patience; then compares with the gateway's books.
    /// `settled` is told how many bills are.
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
    /// Whether everyone knows, and the gateway's books say the same.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.unknown == 0 && self.doubled == 0 && self.differences.is_empty()
    }
}

/// Pays one bill; how it ended and how many requests that took.
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
                // There is no such payment after all: it may be asked for again.
                (StatusCode::NOT_FOUND, _) => place = None,
                _ => {}
            }
        }
        sleep(PAUSE).await;
    }
    (BillEnd::Unknown, requests)
}
