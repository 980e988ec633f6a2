//! How an order stands: the one question that storefronts ask the ledger, over any database.

use bridge_protocol::domain::{Brand, KeyDigest, OrderId};
use bridge_protocol::wire::order::{Line, State, Terms};
use bytes::Bytes;
use uuid::Uuid;

use crate::database::{LedgerError, row};

row! {
    /// An order, and its terms if it was placed.
    pub(super) struct OrderRow {
        pub(super) order: Uuid,
        pub(super) state: String,
        pub(super) position: i64,
        pub(super) committed_at: i64,
        pub(super) customer_reference: Option<String>,
        pub(super) currency: Option<String>,
        pub(super) shipping_fee: Option<i64>,
        pub(super) total: Option<i64>,
    }
}

row! {
    /// A line of an order that was placed.
    pub(super) struct LineRow {
        pub(super) sku: String,
        pub(super) quantity: i64,
        pub(super) unit_price: i64,
    }
}

/// What is asked of a database.
pub(super) trait Questions {
    /// An order of this brand; with a key, the order that was placed under it, whatever its id.
    async fn order(&self, brand: &str, order: Uuid, key: Option<&[u8]>) -> sqlx::Result<Option<OrderRow>>;

    /// Its lines, in their order.
    async fn lines(&self, order: Uuid) -> sqlx::Result<Vec<LineRow>>;
}

/// How an order stands. The position and the time are those of the outcome that placed or rejected it.
pub(super) async fn look_up(
    database: &impl Questions,
    brand: &Brand,
    order: OrderId,
    key: Option<KeyDigest>,
) -> Result<Option<State>, LedgerError> {
    let key = key.as_ref().map(|key| key.as_bytes().as_slice());
    let found = database.order(brand.as_str(), order.as_uuid(), key).await?;
    let Some(found) = found else { return Ok(None) };
    let OrderRow { order, state, position, committed_at, customer_reference, currency, shipping_fee, total } =
        found;
    let terms = match (customer_reference, currency, shipping_fee, total) {
        (Some(customer_reference), Some(currency), Some(shipping_fee), Some(total)) => {
            let lines = database.lines(order).await?.into_iter();
            let line = |LineRow { sku, quantity, unit_price }| Line { sku, quantity, unit_price };
            Some(Terms {
                lines: lines.map(line).collect(),
                currency,
                shipping_fee,
                total,
                customer_reference,
            })
        }
        _ => None,
    };
    let order = Bytes::copy_from_slice(order.as_bytes());
    Ok(Some(State { order, state, terms, position, committed_at_micros: committed_at }))
}
