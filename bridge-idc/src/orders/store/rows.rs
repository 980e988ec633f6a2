//! Rows of the ledger: those that are written, by column, and those that are read, with their
//! conversion to types of the domain.
//!
//! A row that this build would not have written is [`LedgerError::Corrupt`]. No value is guessed.

use bridge_protocol::domain::outcome::{LaterCode, LaunchRefusal};
use bridge_protocol::domain::{
    Brand, Currency, KeyDigest, Money, OrderId, OrderTerms, Outcome, Sku, UnixMicros,
};
use uuid::Uuid;

use crate::database::{LedgerError, row};
use crate::orders::planner::{CustomerTag, LaunchUnits, Offer, Settled, SkuLaunch, Standing};
use crate::vault::PersonalAtRest;

/// Columns `brand, currency`.
pub(crate) type BrandRow = (String, String);

row! {
    /// Units of one SKU in an order, and the launch that sold them if there is one.
    pub(super) struct UnitsRow {
        pub(super) order: Uuid,
        pub(super) sku_id: i64,
        pub(super) quantity: i64,
        pub(super) launch_id: Option<i64>,
        pub(super) customer: Option<Vec<u8>>,
    }
}

row! {
    /// A locked row: of a SKU's stock, or of a launch.
    pub(super) struct LockedRow {
        pub(super) sku_id: Option<i64>,
        pub(super) launch_id: Option<i64>,
    }
}

row! {
    /// Units of a SKU that a customer has from a launch, in orders that stand.
    pub(super) struct PurchasedRow {
        pub(super) launch_id: i64,
        pub(super) customer: Vec<u8>,
        pub(super) sku_id: i64,
        pub(super) units: i64,
    }
}

row! {
    /// A brand with one of its SKUs, and the launch that sells it now or next. The row of the brand
    /// itself has no SKU.
    #[derive(Default)]
    pub(super) struct OfferRow {
        pub(super) brand: String,
        pub(super) currency: String,
        pub(super) sku_id: Option<i64>,
        pub(super) sku: Option<String>,
        pub(super) price: Option<i64>,
        pub(super) available: Option<i64>,
        pub(super) launch_id: Option<i64>,
        pub(super) opens_at: Option<i64>,
        /// Microseconds until the launch opens, by the database's clock. Not positive if it has.
        pub(super) opens_in: Option<i64>,
        pub(super) customer_limit: Option<i64>,
        pub(super) sku_limit: Option<i64>,
        pub(super) units_left: Option<i64>,
    }
}

row! {
    /// The outcome under a key.
    pub(super) struct SettledRow {
        pub(super) key: Vec<u8>,
        pub(super) order: Uuid,
        pub(super) fingerprint: Vec<u8>,
        pub(super) outcome: String,
        pub(super) sku: Option<String>,
        pub(super) price: Option<i64>,
        pub(super) currency: Option<String>,
        pub(super) position: i64,
        pub(super) committed_at: i64,
        pub(super) opens_at: Option<i64>,
        pub(super) customer_limit: Option<i64>,
        pub(super) bought: Option<i64>,
    }
}

row! {
    /// State and brand of an order.
    pub(super) struct StandingRow {
        pub(super) order: Uuid,
        pub(super) brand: String,
        pub(super) state: String,
    }
}

/// The rows from which a batch is decided.
#[derive(Default)]
pub(super) struct FactRows {
    /// Brands, and offers of their SKUs.
    pub(super) offers: Vec<OfferRow>,
    /// Outcomes under the batch's keys.
    pub(super) settled: Vec<SettledRow>,
    /// Orders to cancel.
    pub(super) standing: Vec<StandingRow>,
    /// Units that customers have from launches.
    pub(super) purchases: Vec<PurchasedRow>,
}

/// A row for `outcomes`.
pub(super) struct OutcomeRow<'a> {
    /// Index of its request in the batch.
    pub(super) request: usize,
    pub(super) key: &'a KeyDigest,
    pub(super) brand: &'a str,
    pub(super) operation: &'static str,
    pub(super) order: Uuid,
    pub(super) fingerprint: &'a [u8],
    pub(super) outcome: &'a Outcome,
}

impl OutcomeRow<'_> {
    /// Returns the columns `opens_at, customer_limit, bought`.
    pub(super) fn launch_columns(&self) -> (Option<i64>, Option<i64>, Option<i64>) {
        match self.outcome.launch_refusal() {
            Some(LaunchRefusal::NotOpen { opens_at }) => (Some(opens_at.get()), None, None),
            Some(LaunchRefusal::LimitReached { limit, bought }) => (None, Some(limit), Some(bought)),
            None => (None, None, None),
        }
    }
}

/// A row for `launch_purchases`.
pub(super) struct PurchaseRow<'a> {
    pub(super) order: Uuid,
    pub(super) units: &'a LaunchUnits,
}

/// A row for `orders`.
pub(super) struct OrderRow<'a> {
    pub(super) order: Uuid,
    pub(super) brand: &'a str,
    /// Index of its outcome among the new ones. The order gets the position of that outcome.
    pub(super) outcome: usize,
    pub(super) terms: &'a OrderTerms,
}

/// A row for `order_lines`.
pub(super) struct LineRow {
    pub(super) order: Uuid,
    pub(super) line_no: i32,
    pub(super) sku_id: i64,
    pub(super) quantity: i64,
    pub(super) unit_price: i64,
}

/// A row for `order_personal`.
pub(super) struct PersonalRow<'a> {
    pub(super) order: Uuid,
    pub(super) personal: &'a PersonalAtRest,
}

/// All rows that a batch writes, and the units that it moves.
#[derive(Default)]
pub(super) struct NewRows<'a> {
    /// New outcomes, sorted by key. Two writers of the same keys then wait for each other in one
    /// order, without a deadlock.
    pub(super) outcomes: Vec<OutcomeRow<'a>>,
    pub(super) orders: Vec<OrderRow<'a>>,
    pub(super) lines: Vec<LineRow>,
    pub(super) personal: Vec<PersonalRow<'a>>,
    /// Units newly sold by SKU row, or back if negative.
    pub(super) stock: Vec<(i64, i64)>,
    pub(super) purchases: Vec<PurchaseRow<'a>>,
    /// Units newly sold by launch, or back if negative.
    pub(super) launches: Vec<(i64, i64)>,
}

impl NewRows<'_> {
    /// Returns true if the batch places and cancels nothing, so that it only has outcomes.
    pub(super) fn are_outcomes_alone(&self) -> bool {
        self.orders.is_empty() && self.stock.is_empty() && self.launches.is_empty()
    }
}

/// The result of writing [`NewRows`].
#[derive(Default)]
pub(super) struct WrittenRows {
    /// Positions of the outcomes in their order. There are fewer than outcomes if a key was not
    /// new.
    pub(super) positions: Vec<i64>,
    /// Number of rows of orders, lines, personal data and purchases that were inserted. There are
    /// fewer if a trigger of the shop drops some.
    pub(super) inserted: usize,
    /// Number of stock rows that had the units.
    pub(super) stock: usize,
    /// Number of launches that had the units.
    pub(super) launches: usize,
}

impl WrittenRows {
    /// Returns true if all keys were new and all units were there.
    pub(super) fn had_keys_and_units(&self, rows: &NewRows<'_>) -> bool {
        (self.positions.len(), self.stock, self.launches)
            == (rows.outcomes.len(), rows.stock.len(), rows.launches.len())
    }

    /// Returns true if all rows of the orders were inserted.
    pub(super) fn inserted_all(&self, rows: &NewRows<'_>) -> bool {
        let NewRows { orders, lines, personal, purchases, .. } = rows;
        self.inserted == orders.len() + lines.len() + personal.len() + purchases.len()
    }
}

/// Converts a row to a brand and its currency.
pub(crate) fn brand((brand, currency): BrandRow) -> Result<(Brand, Currency), LedgerError> {
    let corrupt = |what| LedgerError::Corrupt { table: "brands", what };
    let brand = Brand::new(&brand).map_err(|_| corrupt("an invalid brand name"))?;
    Ok((brand, Currency::new(&currency).map_err(|_| corrupt("an invalid currency code"))?))
}

/// A brand, its currency, and one of its SKUs. The SKU is missing in the row of the brand itself.
pub(super) type Offered = (Brand, Currency, Option<(Sku, Offer)>);

pub(super) fn offer(row: OfferRow) -> Result<Offered, LedgerError> {
    let launch = launch_of(&row);
    let OfferRow { brand: name, currency, sku_id, sku, price, available, .. } = row;
    let (brand, currency) = brand((name, currency))?;
    let (Some(sku_id), Some(sku), Some(price), Some(available)) = (sku_id, sku, price, available) else {
        return Ok((brand, currency, None));
    };
    let corrupt = |what| LedgerError::Corrupt { table: "skus", what };
    let sku = Sku::new(&sku).ok_or_else(|| corrupt("an invalid SKU"))?;
    let price = Money::new(price, currency).ok_or_else(|| corrupt("a price out of range"))?;
    Ok((brand, currency, Some((sku, Offer { sku_id, price, available, launch }))))
}

fn launch_of(row: &OfferRow) -> Option<SkuLaunch> {
    Some(SkuLaunch {
        launch_id: row.launch_id?,
        opens_at: UnixMicros::new(row.opens_at?),
        is_open: row.opens_in? <= 0,
        customer_limit: row.customer_limit?,
        sku_limit: row.sku_limit,
        units_left: row.units_left,
    })
}

/// Units from a launch, with the order that has them. `None` if no launch sold them.
pub(super) fn launch_units(row: &UnitsRow) -> Result<Option<LaunchUnits>, LedgerError> {
    let UnitsRow { sku_id, quantity, launch_id, customer, .. } = row;
    let (Some(launch_id), Some(customer)) = (launch_id, customer) else { return Ok(None) };
    let (launch_id, sku_id, units) = (*launch_id, *sku_id, *quantity);
    Ok(Some(LaunchUnits { launch_id, customer: customer_tag(customer)?, sku_id, units }))
}

pub(super) fn customer_tag(bytes: &[u8]) -> Result<CustomerTag, LedgerError> {
    let corrupt = LedgerError::Corrupt { table: "launch_purchases", what: "a customer that is not 32 bytes" };
    bytes.try_into().map(CustomerTag::from_bytes).map_err(|_| corrupt)
}

pub(super) fn settled(row: SettledRow) -> Result<(KeyDigest, Settled), LedgerError> {
    let read = || {
        let settled = Settled {
            order: OrderId::from_uuid(row.order).ok()?,
            fingerprint: row.fingerprint.as_slice().try_into().ok()?,
            outcome: outcome(&row)?,
            position: row.position,
            committed_at: UnixMicros::new(row.committed_at),
        };
        Some((KeyDigest::from_bytes(&row.key)?, settled))
    };
    read().ok_or(LedgerError::Corrupt { table: "outcomes", what: "an outcome with contradictory columns" })
}

/// Returns the outcome in a row. `None` if its columns contradict each other.
fn outcome(row: &SettledRow) -> Option<Outcome> {
    let sku = row.sku.as_deref().map(Sku::new);
    if let Some(code) = LaterCode::new(&row.outcome) {
        // A later release says what its columns mean.
        return Some(Outcome::Later { code, sku: sku.flatten() });
    }
    let launch = match (row.opens_at, row.customer_limit.zip(row.bought)) {
        (Some(at), None) => Some(LaunchRefusal::NotOpen { opens_at: UnixMicros::new(at) }),
        (None, Some((limit, bought))) => Some(LaunchRefusal::LimitReached { limit, bought }),
        (None, None) => None,
        (Some(_), Some(_)) => return None,
    };
    let price = row.price.zip(row.currency.as_deref());
    let price = price.map(|(price, code)| Money::new(price, Currency::new(code).ok()?));
    if matches!(sku, Some(None)) || matches!(price, Some(None)) {
        return None;
    }
    Outcome::from_parts(&row.outcome, sku.flatten(), price.flatten(), launch)
}

pub(super) fn standing(row: StandingRow) -> Result<(OrderId, Brand, Standing), LedgerError> {
    let StandingRow { order, brand, state } = row;
    let state = match state.as_str() {
        "placed" => Standing::Placed,
        "cancelled" => Standing::Cancelled,
        "rejected" => Standing::Rejected,
        _ => return Err(LedgerError::Corrupt { table: "orders", what: "an unknown state" }),
    };
    let brand = Brand::new(&brand);
    let brand =
        brand.map_err(|_| LedgerError::Corrupt { table: "outcomes", what: "an invalid brand name" })?;
    Ok((order_id(order)?, brand, state))
}

pub(super) fn order_id(order: Uuid) -> Result<OrderId, LedgerError> {
    let corrupt = LedgerError::Corrupt { table: "orders", what: "an id that is not a UUIDv7" };
    OrderId::from_uuid(order).map_err(|_| corrupt)
}
