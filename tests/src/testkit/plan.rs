//! What a run is going to do: the stock there is, and the orders and cancellations that callers will post.
//!
//! `retail` (real invoices) and `made_up` (an invented launch) both end in a [`Plan`]; `load` replays it and `demo`
//! compares what came of it with the ledger. A plan is complete before the first request: nothing in it depends on
//! an answer, so the same seed is the same plan, byte by byte.

use bytes::Bytes;
use serde::Serialize;

use crate::testkit::personal::Person;

/// Everything one run posts, for one brand.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The brand all of it belongs to.
    pub brand: String,
    /// ISO 4217 code of every amount in it.
    pub currency: &'static str,
    /// What is on the shelves before the first order.
    pub stock: Vec<StockRow>,
    /// What callers do, in this order (concurrent callers take the next one each).
    pub steps: Vec<Step>,
}

/// One SKU, its price and how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockRow {
    /// The stock keeping unit, as an order names it.
    pub sku: String,
    /// Price of one, in minor units of the plan's currency.
    pub price_minor: u64,
    /// Units available before the first order.
    pub quantity: u64,
}

/// One request of a caller.
#[derive(Clone, Debug)]
pub enum Step {
    /// Post an order.
    Place(OrderStep),
    /// Cancel an order that an earlier step placed.
    Cancel {
        /// The idempotency key of the cancellation itself.
        key: String,
        /// Index in [`Plan::steps`] of the order; smaller than this step's own.
        of: usize,
    },
}

/// One order, ready to be posted.
#[derive(Clone, Debug)]
pub struct OrderStep {
    /// Its idempotency key.
    pub key: String,
    /// The JSON body.
    pub body: Bytes,
    /// What it takes from the stock, once per SKU.
    pub lines: Vec<Line>,
    /// What the customer pays, in minor units.
    pub total_minor: u64,
    /// Values in `body` that must never be seen outside the IDC.
    pub planted: Vec<String>,
}

/// Units of one SKU in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Index in [`Plan::stock`].
    pub stock: usize,
    /// Units, at least 1.
    pub quantity: u64,
}

impl Plan {
    /// The stock as the CSV that `bridge-idc stock import` reads.
    ///
    /// # Errors
    /// None in practice: it writes to memory.
    pub fn stock_csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(["brand", "sku", "unit_price", "currency", "quantity"])?;
        for row in &self.stock {
            let (price, quantity) = (self.in_its_unit(row.price_minor), row.quantity.to_string());
            csv.write_record([&self.brand, &row.sku, &price, self.currency, &quantity])?;
        }
        csv.into_inner().map_err(|error| csv::Error::from(error.into_error()))
    }

    /// An amount as people write it: won have no decimals, every other currency of a plan has two.
    fn in_its_unit(&self, minor: u64) -> String {
        match self.currency {
            "KRW" => minor.to_string(),
            _ => format!("{}.{:02}", minor / 100, minor % 100),
        }
    }

    /// The orders among the steps, with their index.
    pub fn places(&self) -> impl Iterator<Item = (usize, &OrderStep)> {
        self.steps.iter().enumerate().filter_map(|(index, step)| match step {
            Step::Place(place) => Some((index, place)),
            Step::Cancel { .. } => None,
        })
    }

    /// Every personal value that its orders carry.
    pub fn planted(&self) -> impl Iterator<Item = &str> {
        self.places().flat_map(|(_, place)| place.planted.iter().map(String::as_str))
    }

    /// Makes the step that orders `lines` for `person`; the shipping fee is part of the total.
    #[must_use]
    pub fn place(&self, key: String, lines: Vec<Line>, shipping_minor: u64, person: &Person) -> Step {
        let money = |amount| Money { amount, currency: self.currency };
        let goods: u64 = lines.iter().map(|line| self.stock[line.stock].price_minor * line.quantity).sum();
        let total_minor = goods + shipping_minor;
        let body = Body {
            lines: lines
                .iter()
                .map(|line| {
                    let row = &self.stock[line.stock];
                    BodyLine { sku: &row.sku, quantity: line.quantity, unit_price: money(row.price_minor) }
                })
                .collect(),
            total: money(total_minor),
            shipping_fee: money(shipping_minor),
            person,
        };
        #[expect(clippy::expect_used, reason = "strings and integers always become JSON")]
        let body = serde_json::to_vec(&body).expect("an order body is plain JSON").into();
        Step::Place(OrderStep { key, body, lines, total_minor, planted: person.planted() })
    }
}

/// The body of `POST /v1/{brand}/orders`, as a storefront would write it. Deliberately not the product's own type:
/// a rename there must break here.
#[derive(Serialize)]
struct Body<'a> {
    lines: Vec<BodyLine<'a>>,
    total: Money,
    shipping_fee: Money,
    #[serde(flatten)]
    person: &'a Person,
}

#[derive(Serialize)]
struct BodyLine<'a> {
    sku: &'a str,
    quantity: u64,
    unit_price: Money,
}

#[derive(Serialize)]
struct Money {
    amount: u64,
    currency: &'static str,
}
