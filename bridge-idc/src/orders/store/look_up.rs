//! How orders stand: the question that storefronts ask the ledger, many of them at a time, over any database.

use std::collections::HashMap;

use bridge_protocol::domain::{Brand, KeyDigest, OrderId};
use bridge_protocol::wire::order::{Line, State, Terms};
use bytes::Bytes;
use uuid::Uuid;

use crate::database::{LedgerError, row};

/// How does this order stand?
#[derive(Debug, Clone)]
pub struct Question {
    /// Whose shop.
    pub brand: Brand,
    /// Which order.
    pub order: OrderId,
    /// With a key, the order that was placed under it, whatever its id.
    pub key: Option<KeyDigest>,
}

row! {
    /// An order, and its terms if it was placed.
    pub(super) struct OrderRow {
        /// Which question it answers; the first one is 1.
        pub(super) question: i64,
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
    /// A line of an order.
    pub(super) struct LineRow {
        pub(super) order: Uuid,
        pub(super) sku: String,
        pub(super) quantity: i64,
        pub(super) unit_price: i64,
    }
}

/// What is asked of a database.
pub(super) trait Questions {
    /// The orders that there are, in any order.
    async fn orders(&mut self, questions: &[Question]) -> sqlx::Result<Vec<OrderRow>>;

    /// The lines of these orders; those of one order in their order.
    async fn lines(&mut self, orders: &[Uuid]) -> sqlx::Result<Vec<LineRow>>;
}

/// How these orders stand, each in the place of its question. The position and the time are those of the outcome that placed or
/// rejected it.
pub(super) async fn look_up(
    database: &mut impl Questions,
    questions: &[Question],
) -> Result<Vec<Option<State>>, LedgerError> {
    let found = database.orders(questions).await?;
    let placed: Vec<Uuid> = found.iter().filter(|row| row.total.is_some()).map(|row| row.order).collect();
    let mut lines: HashMap<Uuid, Vec<Line>> = HashMap::new();
    if !placed.is_empty() {
        for LineRow { order, sku, quantity, unit_price } in database.lines(&placed).await? {
            lines.entry(order).or_default().push(Line { sku, quantity, unit_price });
        }
    }
    let mut states = vec![None; questions.len()];
    for row in found {
        let place = usize::try_from(row.question - 1).ok().and_then(|index| states.get_mut(index));
        let wrong =
            LedgerError::Corrupt { table: "outcomes", what: "the number of a question that was not asked" };
        *place.ok_or(wrong)? = Some(state(row, &lines));
    }
    Ok(states)
}

/// An order as its storefront is told of it.
fn state(row: OrderRow, lines: &HashMap<Uuid, Vec<Line>>) -> State {
    let terms = match (row.customer_reference, row.currency, row.shipping_fee, row.total) {
        (Some(customer_reference), Some(currency), Some(shipping_fee), Some(total)) => {
            let lines = lines.get(&row.order).cloned().unwrap_or_default();
            Some(Terms { lines, currency, shipping_fee, total, customer_reference })
        }
        _ => None,
    };
    let order = Bytes::copy_from_slice(row.order.as_bytes());
    State { order, state: row.state, terms, position: row.position, committed_at_micros: row.committed_at }
}
