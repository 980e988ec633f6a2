//! Look-up of orders over any database: many questions of storefronts in one statement.

use std::collections::HashMap;

use bridge_protocol::domain::{Brand, KeyDigest, OrderId};
use bridge_protocol::wire::order::{Line, State, Terms};
use bytes::Bytes;
use uuid::Uuid;

use crate::database::{LedgerError, row};

/// A question about the state of an order.
#[derive(Debug, Clone)]
pub struct Question {
    /// Brand of the order.
    pub brand: Brand,
    /// Id of the order.
    pub order: OrderId,
    /// Idempotency key. If set, the question is about the order that was placed under this key, and
    /// `order` does not matter.
    pub key: Option<KeyDigest>,
}

row! {
    /// An order, with its terms if it was placed.
    pub(super) struct OrderRow {
        /// Number of the question that the row answers, counted from 1.
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

/// The statements of a look-up.
pub(super) trait Questions {
    /// Returns the orders that exist, in any order.
    async fn orders(&mut self, questions: &[Question]) -> sqlx::Result<Vec<OrderRow>>;

    /// Returns the lines of these orders. The lines of one order are in their order.
    async fn lines(&mut self, orders: &[Uuid]) -> sqlx::Result<Vec<LineRow>>;
}

/// Returns the state of each order, at the index of its question. Position and time are those of
/// the outcome that placed or rejected the order.
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
        let wrong = LedgerError::Corrupt { table: "outcomes", what: "an unknown number of a question" };
        *place.ok_or(wrong)? = Some(state(row, &lines));
    }
    Ok(states)
}

/// Converts a row to the state that the storefront gets.
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
