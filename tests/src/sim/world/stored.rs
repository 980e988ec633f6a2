//! Content of the database, converted into the types of the reference model.

use std::collections::BTreeMap;

use bridge_idc::orders::store::model::{OutcomeColumns, StoredOrder};
use bridge_protocol::domain::outcome::LaunchRefusal;
use bridge_protocol::receipt::Receipt;

use super::super::reference::history::Stored;
use super::super::reference::{Line, Outcome, Row, Terms, vault};
use super::World;

/// The key-encryption key of [`Keyring::for_tests`](bridge_idc::vault::keyring::Keyring::for_tests)
/// with seed 1.
const ENCRYPTION_KEY: [u8; 32] = [1 ^ (3 << 5); 32];

/// Converts a row of `outcomes`.
pub(super) fn row(columns: &OutcomeColumns) -> Row {
    let OutcomeColumns { outcome, sku, price, currency, position, committed_at, .. } = columns;
    let limit = columns.customer_limit.zip(columns.bought);
    Row {
        brand: columns.brand.clone(),
        key: columns.key.as_slice().try_into().unwrap_or_default(),
        order: columns.order.into_bytes(),
        outcome: Outcome {
            code: outcome.clone(),
            sku: sku.clone(),
            price: *price,
            currency: currency.clone(),
            limit,
        },
        position: *position,
        committed_at: *committed_at,
    }
}

/// Converts a receipt that the agents' own code has decoded.
pub(super) fn certified(receipt: &Receipt) -> Row {
    let price = receipt.outcome.price();
    Row {
        brand: receipt.brand.as_str().to_owned(),
        key: *receipt.key.as_bytes(),
        order: *receipt.order.as_bytes(),
        outcome: Outcome {
            code: receipt.outcome.code().to_owned(),
            sku: receipt.outcome.sku().map(|sku| sku.as_str().to_owned()),
            price: price.map(|price| price.amount()),
            currency: price.map(|price| price.currency().to_string()),
            limit: match receipt.outcome.launch_refusal() {
                Some(LaunchRefusal::LimitReached { limit, bought }) => Some((limit, bought)),
                Some(LaunchRefusal::NotOpen { .. }) | None => None,
            },
        },
        position: receipt.position,
        committed_at: receipt.committed_at.get(),
    }
}

impl World {
    /// Returns all outcomes.
    pub(super) fn stored_outcomes(&self) -> Vec<Row> {
        self.ledger.outcomes().iter().map(|columns| row(columns)).collect()
    }

    /// Returns all orders that were placed.
    pub(super) fn stored_orders(&self) -> Vec<Stored> {
        let skus: BTreeMap<i64, &str> =
            (1..).zip(&self.shop.stock).map(|(sku_id, offer)| (sku_id, offer.sku.as_str())).collect();
        self.ledger.orders().iter().map(|order| stored(order, &skus)).collect()
    }
}

fn stored(order: &StoredOrder, skus: &BTreeMap<i64, &str>) -> Stored {
    let mut lines = order.lines.clone();
    lines.sort_by_key(|line| line.line_no);
    let line = |line: &bridge_idc::orders::store::model::LineColumns| Line {
        sku: skus.get(&line.sku_id).copied().unwrap_or_default().to_owned(),
        quantity: line.quantity,
        unit_price: line.unit_price,
    };
    let columns = order.columns.as_deref();
    let terms = columns.map(|columns| Terms {
        lines: lines.iter().map(line).collect(),
        currency: columns.currency.clone(),
        shipping_fee: columns.shipping_fee,
        total: columns.total,
        customer_reference: columns.customer_reference.clone(),
    });
    let id = order.order.into_bytes();
    let personal = order.personal.as_deref().and_then(|row| {
        let stored = vault::Stored {
            key_version: row.key_version,
            wrapped_key: &row.wrapped_key,
            fields: &row.fields,
        };
        vault::open(&id, &stored, &ENCRYPTION_KEY)
    });
    Stored {
        order: id,
        state: order.state,
        brand: columns.map(|columns| columns.brand.clone()).unwrap_or_default(),
        position: columns.map_or(0, |columns| columns.position),
        terms: terms.unwrap_or_default(),
        personal,
    }
}
