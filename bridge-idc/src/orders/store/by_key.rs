//! Outcomes and payments of the ledger in the order of their keys, for the comparison with the
//! audit logs.
//!
//! Each batch of rows is one statement by an index, and a transaction of its own. It takes no locks
//! and waits for none. A row that is committed during the comparison may be missing.

use bridge_protocol::domain::{Brand, KeyDigest, OrderId, UnixMicros};
use uuid::Uuid;

use super::rows::order_id;
use super::{Ledger, LedgerError};
use crate::database::{on_database, row};

/// Rows of one statement.
pub const BATCH_ROWS: usize = 1_000;

/// A range of keys. Both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// The first key.
    pub from: [u8; 32],
    /// The last key.
    pub to: [u8; 32],
}

/// The outcome of a request about an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeOfKey {
    /// Key of the request.
    pub key: KeyDigest,
    /// Brand of the order.
    pub brand: Brand,
    /// The order.
    pub order: OrderId,
    /// Code of the outcome.
    pub outcome: String,
    /// Position of the outcome.
    pub position: i64,
    /// Time of the commit, by the clock of the agent that committed it.
    pub committed_at: UnixMicros,
    /// State of the order; `None` if there is no such order.
    pub stands: Option<String>,
}

/// A request for a payment or a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentOfKey {
    /// Key of the request.
    pub key: KeyDigest,
    /// True if the request is for a refund.
    pub is_refund: bool,
    /// Payment or refund of the request; `None` if its row is missing.
    pub asked: Option<AskedFor>,
}

/// The payment or refund that a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedFor {
    /// Brand of the order.
    pub brand: Brand,
    /// Order of the payment.
    pub order: OrderId,
    /// State of the payment, or of the refund if the request is for a refund.
    pub state: String,
    /// Time when the payment or refund was concluded or, before that, begun. The time is by the
    /// database's clock.
    pub at: UnixMicros,
}

row! {
    /// An outcome with the order's state.
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
    /// A request with its payment, both states and its time.
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
    /// Splits the range of all keys into this many parts, in order.
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

    /// Returns true if the key is in the range.
    pub fn has(&self, key: &[u8; 32]) -> bool {
        self.from <= *key && *key <= self.to
    }

    /// Returns the greatest value below the range, for a comparison with `>`.
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
    /// Gives each outcome of a request about an order to `take`, in the order of keys.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer or a row is corrupt.
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

    /// Gives each request for a payment or a refund to `take`, in the order of keys.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer or a row is corrupt.
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
        key: KeyDigest::from_bytes(&key).ok_or_else(|| corrupt("a key that is not a digest"))?,
        brand: Brand::new(&brand).map_err(|_| corrupt("an invalid brand name"))?,
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
            brand: Brand::new(&brand).map_err(|_| corrupt("an invalid brand name"))?,
            order: order_id(order)?,
            state,
            at: UnixMicros::new(at),
        }),
        _ => None,
    };
    let key = KeyDigest::from_bytes(&key).ok_or_else(|| corrupt("a key that is not a digest"))?;
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
