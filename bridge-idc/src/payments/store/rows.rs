//! Rows of payments and refunds, and their conversion to types of the domain. A row that this build
//! would not have written is an error. No value is guessed.

use bridge_protocol::domain::{
    Brand, Currency, Money, OrderId, PaymentId, PaymentKey, PaymentState, ReasonCode, RefundId, RefundState,
    UnixMicros,
};
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};
use uuid::Uuid;

use crate::database::{LedgerError, row};
use crate::payments::{Charge, Payment, Refund};

row! {
    /// A payment.
    pub struct PaymentRow {
        pub(crate) payment: Uuid,
        pub(crate) brand: String,
        pub(crate) order: Uuid,
        pub(crate) amount: i64,
        pub(crate) currency: String,
        pub(crate) payment_key: String,
        pub(crate) state: String,
        pub(crate) refunded: i64,
        pub(crate) code: Option<String>,
        pub(crate) asks: i64,
        pub(crate) created_at: i64,
        pub(crate) concluded_at: Option<i64>,
        pub(crate) confirm_until: i64,
    }
}

row! {
    /// A refund.
    pub struct RefundRow {
        pub(crate) refund: Uuid,
        pub(crate) payment: Uuid,
        pub(crate) amount: i64,
        pub(crate) reason: String,
        pub(crate) automatic: bool,
        pub(crate) state: String,
        pub(crate) code: Option<String>,
        pub(crate) asks: i64,
        pub(crate) created_at: i64,
        pub(crate) give_back_until: i64,
        pub(crate) concluded_at: Option<i64>,
    }
}

row! {
    /// Earlier use of a key.
    pub struct RequestRow {
        pub(crate) fingerprint: Vec<u8>,
        pub(crate) payment: Uuid,
        pub(crate) refund: Option<Uuid>,
    }
}

row! {
    /// Number of unknown outcomes, start time of the oldest one, and number of payments that were
    /// charged late.
    pub struct DoubtRow {
        pub(crate) count: i64,
        pub(crate) since: Option<i64>,
        pub(crate) charged_late: i64,
    }
}

row! {
    /// An order that was placed.
    pub struct OrderRow {
        pub(crate) brand: String,
        pub(crate) state: String,
        pub(crate) currency: String,
        pub(crate) total: i64,
    }
}

/// A payment that is due, and the state of its order. The columns are those of [`PaymentRow`] and
/// one after them.
pub struct DueRow {
    pub(crate) payment: PaymentRow,
    pub(crate) order_state: Option<String>,
}

impl<'r, R: Row> FromRow<'r, R> for DueRow
where
    PaymentRow: FromRow<'r, R>,
    usize: ColumnIndex<R>,
    Option<String>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> sqlx::Result<Self> {
        Ok(Self { payment: PaymentRow::from_row(row)?, order_state: row.try_get(ORDER_STATE_AT)? })
    }
}

/// Index of the order's state in a [`DueRow`], counted from 0.
const ORDER_STATE_AT: usize = 13;

/// Converts a row to a payment without its refunds.
pub(super) fn read_payment(row: &PaymentRow) -> Result<Payment, LedgerError> {
    let read = || {
        let charge = Charge {
            payment: PaymentId::from_uuid(row.payment).ok()?,
            order: OrderId::from_uuid(row.order).ok()?,
            amount: Money::new(row.amount, Currency::new(&row.currency).ok()?)?,
            payment_key: PaymentKey::new(&row.payment_key)?,
        };
        Some(Payment {
            brand: Brand::new(&row.brand).ok()?,
            charge,
            state: PaymentState::from_code(&row.state)?,
            refunded: row.refunded,
            code: read_code(row.code.as_deref())?,
            asks: u32::try_from(row.asks).ok()?,
            created_at: UnixMicros::new(row.created_at),
            concluded_at: row.concluded_at.map(UnixMicros::new),
            confirm_until: UnixMicros::new(row.confirm_until),
            refunds: Vec::new(),
        })
    };
    read().ok_or(LedgerError::Corrupt { table: "payments", what: "a payment with contradictory columns" })
}

/// Converts a row to a refund and the id of its payment.
pub(super) fn read_refund(row: RefundRow) -> Result<(PaymentId, Refund), LedgerError> {
    let read = || {
        let refund = Refund {
            refund: RefundId::from_uuid(row.refund).ok()?,
            amount: row.amount,
            reason: row.reason,
            automatic: row.automatic,
            state: RefundState::from_code(&row.state)?,
            code: read_code(row.code.as_deref())?,
            asks: u32::try_from(row.asks).ok()?,
            created_at: UnixMicros::new(row.created_at),
            give_back_until: UnixMicros::new(row.give_back_until),
            concluded_at: row.concluded_at.map(UnixMicros::new),
        };
        Some((PaymentId::from_uuid(row.payment).ok()?, refund))
    };
    read().ok_or(LedgerError::Corrupt { table: "refunds", what: "a refund with contradictory columns" })
}

/// Converts a reason code. Returns `None` if the text is not a valid code.
fn read_code(code: Option<&str>) -> Option<Option<ReasonCode>> {
    match code {
        Some(code) => ReasonCode::new(code).map(Some),
        None => Some(None),
    }
}
