//! Rows between the flow and the databases: what is written, by column, and how what was read becomes the domain's types.
//!
//! A row that this build would not have written is [`LedgerError::Corrupt`], never a guess.

use bridge_protocol::domain::{
    Brand, Currency, KeyDigest, Money, OrderId, OrderTerms, Outcome, Sku, UnixMicros,
};
use uuid::Uuid;

use crate::database::{LedgerError, row};
use crate::orders::planner::{Offer, Settled, Standing};
use crate::vault::PersonalAtRest;

/// `brand, currency`
pub(crate) type BrandRow = (String, String);

row! {
    /// Units of a SKU that an order has.
    pub(super) struct UnitsRow {
        pub(super) order: Uuid,
        pub(super) sku_id: i64,
        pub(super) quantity: i64,
    }
}

row! {
    /// A brand, and one of its SKUs, or nothing in a brand's own row.
    pub(super) struct OfferRow {
        pub(super) brand: String,
        pub(super) currency: String,
        pub(super) sku_id: Option<i64>,
        pub(super) sku: Option<String>,
        pub(super) price: Option<i64>,
        pub(super) available: Option<i64>,
    }
}

row! {
    /// What is settled under a key.
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
    }
}

row! {
    /// How an order stands, and whose it is.
    pub(super) struct StandingRow {
        pub(super) order: Uuid,
        pub(super) brand: String,
        pub(super) state: String,
    }
}

/// `key, position`
pub(super) type PositionRow = (Vec<u8>, i64);

/// A row for `outcomes`.
pub(super) struct OutcomeRow<'a> {
    pub(super) key: &'a [u8],
    pub(super) brand: &'a str,
    pub(super) operation: &'static str,
    pub(super) order: Uuid,
    pub(super) fingerprint: &'a [u8],
    pub(super) outcome: &'a Outcome,
}

/// A row for `orders`.
pub(super) struct OrderRow<'a> {
    pub(super) order: Uuid,
    pub(super) brand: &'a str,
    pub(super) position: i64,
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

/// What is written of the orders of a batch that are placed.
#[derive(Default)]
pub(super) struct PlacedRows<'a> {
    pub(super) orders: Vec<OrderRow<'a>>,
    pub(super) lines: Vec<LineRow>,
    pub(super) personal: Vec<PersonalRow<'a>>,
}

/// A brand, and what it sells in.
pub(crate) fn brand((brand, currency): BrandRow) -> Result<(Brand, Currency), LedgerError> {
    let corrupt = |what| LedgerError::Corrupt { table: "brands", what };
    let brand = Brand::new(&brand).map_err(|_| corrupt("a name that is no brand's"))?;
    Ok((brand, Currency::new(&currency).map_err(|_| corrupt("no currency code"))?))
}

/// A brand, what it sells in, and one of its SKUs, unless the row is the brand's own.
pub(super) type Offered = (Brand, Currency, Option<(Sku, Offer)>);

pub(super) fn offer(row: OfferRow) -> Result<Offered, LedgerError> {
    let OfferRow { brand: name, currency, sku_id, sku, price, available } = row;
    let (brand, currency) = brand((name, currency))?;
    let (Some(sku_id), Some(sku), Some(price), Some(available)) = (sku_id, sku, price, available) else {
        return Ok((brand, currency, None));
    };
    let corrupt = |what| LedgerError::Corrupt { table: "skus", what };
    let sku = Sku::new(&sku).ok_or_else(|| corrupt("no SKU"))?;
    let price = Money::new(price, currency).ok_or_else(|| corrupt("a price out of range"))?;
    Ok((brand, currency, Some((sku, Offer { sku_id, price, available }))))
}

pub(super) fn settled(row: SettledRow) -> Result<(KeyDigest, Settled), LedgerError> {
    let SettledRow { key, order, fingerprint, outcome: code, sku, price, currency, position, committed_at } =
        row;
    let read = || {
        let sku = sku.as_deref().map(Sku::new);
        let price = price.zip(currency).map(|(price, code)| Money::new(price, Currency::new(&code).ok()?));
        if matches!(sku, Some(None)) || matches!(price, Some(None)) {
            return None;
        }
        let settled = Settled {
            order: OrderId::from_uuid(order).ok()?,
            fingerprint: fingerprint.try_into().ok()?,
            outcome: Outcome::from_parts(&code, sku.flatten(), price.flatten())?,
            position,
            committed_at: UnixMicros::new(committed_at),
        };
        Some((KeyDigest::from_bytes(&key)?, settled))
    };
    read().ok_or(LedgerError::Corrupt { table: "outcomes", what: "an outcome that does not fit together" })
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
        brand.map_err(|_| LedgerError::Corrupt { table: "outcomes", what: "a name that is no brand's" })?;
    Ok((order_id(order)?, brand, state))
}

pub(super) fn order_id(order: Uuid) -> Result<OrderId, LedgerError> {
    let corrupt = LedgerError::Corrupt { table: "orders", what: "an id that is no UUIDv7" };
    OrderId::from_uuid(order).map_err(|_| corrupt)
}
