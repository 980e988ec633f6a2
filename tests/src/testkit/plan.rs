//! The plan of a run: the stock, and the orders and cancellations that callers will post.
//!
//! `retail` (real invoices) and `generated` (a made-up launch) make a [`Plan`]; `load` replays it,
//! and `demo` compares the result with the ledger. A plan is complete before the first request and
//! depends on no answer. So the same seed gives the same plan, byte by byte.

use bytes::Bytes;
use serde::Serialize;

use crate::testkit::personal::Person;

/// All requests of one run, for one brand.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The brand of all orders.
    pub brand: String,
    /// ISO 4217 code of all amounts.
    pub currency: &'static str,
    /// The stock before the first order.
    pub stock: Vec<StockRow>,
    /// The requests in their order. Each of the concurrent callers takes the next one.
    pub steps: Vec<Step>,
}

/// Price and quantity of one SKU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockRow {
    /// The SKU's name in an order.
    pub sku: String,
    /// Unit price, in minor units of the plan's currency.
    pub price_minor: u64,
    /// Units available before the first order.
    pub quantity: u64,
}

/// One request of a caller.
#[derive(Clone, Debug)]
pub enum Step {
    /// Posts an order.
    Place(OrderStep),
    /// Cancels an order that an earlier step placed.
    Cancel {
        /// The cancellation's own idempotency key.
        key: String,
        /// Index in [`Plan::steps`] of the order. It is smaller than this step's own index.
        of: usize,
    },
}

/// One order, ready to be posted.
#[derive(Clone, Debug)]
pub struct OrderStep {
    /// The order's idempotency key.
    pub key: String,
    /// The JSON body of the request.
    pub body: Bytes,
    /// Units that the order takes from the stock. A SKU occurs once.
    pub lines: Vec<Line>,
    /// The order's total, in minor units.
    pub total_minor: u64,
    /// Personal values in `body`. They must not appear outside the IDC.
    pub planted: Vec<String>,
}

/// Units of one SKU in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Index of the SKU in [`Plan::stock`].
    pub stock: usize,
    /// Number of units, at least 1.
    pub quantity: u64,
}

impl Plan {
    /// Returns the stock as the CSV file for `bridge-idc stock import`.
    ///
    /// # Errors
    ///
    /// Never fails in practice, because it writes to memory.
    pub fn stock_csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(["brand", "sku", "unit_price", "currency", "quantity"])?;
        for row in &self.stock {
            let (price, quantity) = (self.in_its_unit(row.price_minor), row.quantity.to_string());
            csv.write_record([&self.brand, &row.sku, &price, self.currency, &quantity])?;
        }
        csv.into_inner().map_err(|error| csv::Error::from(error.into_error()))
    }

    /// Writes an amount in its currency's unit. Won have no decimals; the other currencies of a
    /// plan have two.
    fn in_its_unit(&self, minor: u64) -> String {
        match self.currency {
            "KRW" => minor.to_string(),
            _ => format!("{}.{:02}", minor / 100, minor % 100),
        }
    }

    /// Returns the orders among the steps, with their indices.
    pub fn places(&self) -> impl Iterator<Item = (usize, &OrderStep)> {
        self.steps.iter().enumerate().filter_map(|(index, step)| match step {
            Step::Place(place) => Some((index, place)),
            Step::Cancel { .. } => None,
        })
    }

    /// Returns all personal values of its orders.
    pub fn planted(&self) -> impl Iterator<Item = &str> {
        self.places().flat_map(|(_, place)| place.planted.iter().map(String::as_str))
    }

    /// Makes a step that orders `lines` for `person`. The total contains the shipping fee.
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

/// Body of `POST /v1/{brand}/orders`, as a storefront writes it. It does not use the product's own
/// type, so that a renamed field there breaks this test.
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
