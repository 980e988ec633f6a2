//! What the ledger has under each key, in the order of the keys, for whoever compares it with the audit log.
//!
//! Each batch is one statement by an index, and a transaction of its own: nobody waits for it, and it waits for nobody. What is
//! committed meanwhile may be in it or not.

use bridge_protocol::domain::{Brand, KeyDigest, OrderId, UnixMicros};
use uuid::Uuid;

use super::rows::order_id;
use super::{Ledger, LedgerError};
use crate::database::{on_database, row};

/// Rows of a batch.
pub const BATCH_ROWS: usize = 1_000;

/// Keys from one to another, both among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// The first one.
    pub from: [u8; 32],
    /// The last one.
    pub to: [u8; 32],
}

/// What a request about an order came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeOfKey {
    /// The request's key.
    pub key: KeyDigest,
    /// Whose shop.
    pub brand: Brand,
    /// The order.
    pub order: OrderId,
    /// The outcome's code.
    pub outcome: String,
    /// The outcome's number.
    pub position: i64,
    /// By the clock of the agent that committed it.
    pub committed_at: UnixMicros,
    /// How the order stands; `None` if there is no such order.
    pub stands: Option<String>,
}

/// A payment or a refund that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentOfKey {
    /// The request's key.
    pub key: KeyDigest,
    /// Whether it asked for a refund.
    pub is_refund: bool,
    /// What it asked for; `None` if that is not there.
    pub asked: Option<AskedFor>,
}

/// What a request for a payment or a refund is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedFor {
    /// Whose shop.
    pub brand: Brand,
    /// The payment's order.
    pub order: OrderId,
    /// How the payment stands, or the refund if it asked for that.
    pub state: String,
    /// When it was concluded, or begun; by the database's clock.
    pub at: UnixMicros,
}

row! {
    /// An outcome, and the order's state.
    struct OutcomeRow {
        key: Vec<u8>,
        brand: String,
        order: Uuid,
        outcome: String,
        position: i64,
        committed_at: i64,
        stands: Option<String>,
    }
}

row! {
    /// A request, its payment, both states, and when it ended.
    struct PaymentRow {
        key: Vec<u8>,
        brand: Option<String>,
        order: Option<Uuid>,
        _payment: Uuid,
        refund: Option<Uuid>,
        state: Option<String>,
        refund_state: Option<String>,
        at: Option<i64>,
    }
}

impl Keys {
    /// All of them in so many parts, in order.
    pub fn parts(parts: u64) -> impl Iterator<Item = Self> {
        let parts = u128::from(parts.max(1));
        let begin = move |part: u128| (part << 64).div_ceil(parts);
        (0..parts).map(move |part| {
            let (mut from, mut to) = ([0; 32], [0xff; 32]);
            let first = |number: u128| u64::try_from(number).unwrap_or(u64::MAX).to_be_bytes();
            from[..8].copy_from_slice(&first(begin(part)));
            to[..8].copy_from_slice(&first(begin(part + 1) - 1));
            Self { from, to }
        })
    }

    /// Whether this is one of them.
    pub fn has(&self, key: &[u8; 32]) -> bool {
        self.from <= *key && *key <= self.to
    }

    /// What is less than all of them, and more than all before.
    fn before(&self) -> Vec<u8> {
        let mut before = self.from;
        for byte in before.iter_mut().rev() {
            let is_over = *byte == 0;
            *byte = byte.wrapping_sub(1);
            if !is_over {
                return before.to_vec();
            }
        }
        Vec::new()
    }
}

impl Ledger {
    /// Gives what requests about orders came to, in the order of their keys, to `take`.
    pub async fn outcomes_by_key(
        &self,
        keys: Keys,
        mut take: impl FnMut(OutcomeOfKey),
    ) -> Result<(), LedgerError> {
        let mut after = keys.before();
        loop {
            let rows: Vec<OutcomeRow> = on_database!(self.database, database =>
                sqlx::query_as(include_str!("common/outcomes_by_key.sql"))
                    .bind(&after).bind(keys.to.as_slice()).bind(BATCH_ROWS as i64)
                    .fetch_all(&database.pool).await?);
            let is_last = rows.len() < BATCH_ROWS;
            for row in rows {
                after.clone_from(&row.key);
                take(outcome(row)?);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// The same of payments and refunds.
    pub async fn payments_by_key(
        &self,
        keys: Keys,
        mut take: impl FnMut(PaymentOfKey),
    ) -> Result<(), LedgerError> {
        let mut after = keys.before();
        loop {
            let rows: Vec<PaymentRow> = on_database!(self.database, database =>
                sqlx::query_as(include_str!("common/payments_by_key.sql"))
                    .bind(&after).bind(keys.to.as_slice()).bind(BATCH_ROWS as i64)
                    .fetch_all(&database.pool).await?);
            let is_last = rows.len() < BATCH_ROWS;
            for row in rows {
                after.clone_from(&row.key);
                take(payment(row)?);
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

fn outcome(row: OutcomeRow) -> Result<OutcomeOfKey, LedgerError> {
    let OutcomeRow { key, brand, order, outcome, position, committed_at, stands } = row;
    let corrupt = |what| LedgerError::Corrupt { table: "outcomes", what };
    Ok(OutcomeOfKey {
        key: KeyDigest::from_bytes(&key).ok_or_else(|| corrupt("a key that is no digest"))?,
        brand: Brand::new(&brand).map_err(|_| corrupt("a name that is no brand's"))?,
        order: order_id(order)?,
        outcome,
        position,
        committed_at: UnixMicros::new(committed_at),
        stands,
    })
}

fn payment(row: PaymentRow) -> Result<PaymentOfKey, LedgerError> {
    let PaymentRow { key, brand, order, refund, state, refund_state, at, .. } = row;
    let corrupt = |what| LedgerError::Corrupt { table: "payment_requests", what };
    let is_refund = refund.is_some();
    let state = if is_refund { refund_state } else { state };
    let asked = match (brand, order, state, at) {
        (Some(brand), Some(order), Some(state), Some(at)) => Some(AskedFor {
            brand: Brand::new(&brand).map_err(|_| corrupt("a name that is no brand's"))?,
            order: order_id(order)?,
            state,
            at: UnixMicros::new(at),
        }),
        _ => None,
    };
    let key = KeyDigest::from_bytes(&key).ok_or_else(|| corrupt("a key that is no digest"))?;
    Ok(PaymentOfKey { key, is_refund, asked })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_all_keys_and_none_is_in_two_of_them() {
        for count in [1, 2, 3, 7, 256, 1_000] {
            let parts: Vec<Keys> = Keys::parts(count).collect();
            assert_eq!(parts.len() as u64, count);
            assert_eq!((parts[0].from, parts[parts.len() - 1].to), ([0; 32], [0xff; 32]));
            assert_eq!(parts[0].before(), Vec::<u8>::new());
            for pair in parts.windows(2) {
                assert_eq!(pair[1].before(), pair[0].to);
                assert!(pair[0].has(&pair[0].to) && !pair[1].has(&pair[0].to));
                assert!(pair[1].has(&pair[1].from) && !pair[0].has(&pair[1].from));
            }
        }
    }
}
