//! Rows by column, as texts, numbers and bytes. The checkers of the simulation thus share no type
//! with the code that wrote the rows.

use std::collections::BTreeSet;
use std::rc::Rc;

use uuid::Uuid;

use crate::vault::PersonalAtRest;

/// A row of `outcomes`: the outcome under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeColumns {
    /// Digest of the idempotency key.
    pub key: Vec<u8>,
    /// Brand of the order.
    pub brand: String,
    /// Either `place` or `cancel`.
    pub operation: &'static str,
    /// The order that the outcome is about.
    pub order: Uuid,
    /// Fingerprint of the request.
    pub fingerprint: Vec<u8>,
    /// Code of the outcome.
    pub outcome: String,
    /// SKU that the outcome names.
    pub sku: Option<String>,
    /// Price that the outcome names, in minor units.
    pub price: Option<i64>,
    /// Currency of that price.
    pub currency: Option<String>,
    /// Position that the ledger gave the outcome.
    pub position: i64,
    /// Time of the commit in microseconds since 1970.
    pub committed_at: i64,
    /// Time at which the launch opens that refused the order.
    pub opens_at: Option<i64>,
    /// Units that a launch sells to one customer.
    pub customer_limit: Option<i64>,
    /// Units that the customer had.
    pub bought: Option<i64>,
}

/// A launch, which is open from the beginning and does not end.
#[derive(Debug, Clone)]
pub struct ModelLaunch {
    /// SKU rows that it sells.
    pub sku_ids: BTreeSet<i64>,
    /// Units that it sells to one customer.
    pub customer_limit: i64,
    /// Units that it sells in all.
    pub units: Option<i64>,
}

/// A row of `orders` without its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderColumns {
    /// Brand of the order.
    pub brand: String,
    /// Position of the outcome that placed the order.
    pub position: i64,
    /// The storefront's opaque id of the customer.
    pub customer_reference: String,
    /// ISO 4217 code of its amounts.
    pub currency: String,
    /// Shipping fee in minor units.
    pub shipping_fee: i64,
    /// Total in minor units.
    pub total: i64,
}

/// A row of `order_lines`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineColumns {
    /// Number of the line, counted from 0.
    pub line_no: i32,
    /// Row of the SKU.
    pub sku_id: i64,
    /// Ordered units.
    pub quantity: i64,
    /// Price of one unit in minor units.
    pub unit_price: i64,
}

/// A row of `payments`. Times are microseconds by the database's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentColumns {
    /// Id of the payment.
    pub payment: Uuid,
    /// Brand of the order.
    pub brand: String,
    /// Order of the payment.
    pub order: Uuid,
    /// Amount in minor units.
    pub amount: i64,
    /// ISO 4217 code of the amount.
    pub currency: String,
    /// The gateway's key of the payment.
    pub payment_key: String,
    /// State of the payment.
    pub state: String,
    /// Refunded amount in minor units.
    pub refunded: i64,
    /// Reason why the payment was declined or not paid.
    pub code: Option<String>,
    /// Number of queries to the gateway about the payment.
    pub asks: i64,
    /// Time of the next query.
    pub next_ask_at: Option<i64>,
    /// Time when the payment was begun.
    pub created_at: i64,
    /// Time when the payment's outcome became known.
    pub concluded_at: Option<i64>,
    /// Time until which a request to charge may be on its way.
    pub confirm_until: i64,
    /// Time of the next look at a payment that was given up.
    pub look_at: Option<i64>,
}

/// A row of `refunds`. Times are microseconds by the database's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundColumns {
    /// Id of the refund.
    pub refund: Uuid,
    /// Payment that it refunds.
    pub payment: Uuid,
    /// Amount in minor units.
    pub amount: i64,
    /// Reason of the refund.
    pub reason: String,
    /// True if Bridge made the refund by itself, without a request.
    pub automatic: bool,
    /// State of the refund.
    pub state: String,
    /// Reason why the refund was refused.
    pub code: Option<String>,
    /// Number of repeated requests to the gateway.
    pub asks: i64,
    /// Time of the next request.
    pub next_ask_at: Option<i64>,
    /// Time when the refund was begun.
    pub created_at: i64,
    /// Time when the refund's outcome became known.
    pub concluded_at: Option<i64>,
    /// Time until which a request to refund may be on its way.
    pub give_back_until: i64,
    /// Time of the next look at it, if it was refused after a doubt.
    pub look_at: Option<i64>,
}

/// A row of `payment_requests` without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestColumns {
    /// Fingerprint of the request.
    pub fingerprint: Vec<u8>,
    /// Payment that the request is about.
    pub payment: Uuid,
    /// Refund that the request asks for.
    pub refund: Option<Uuid>,
}

impl PaymentColumns {
    /// Returns true if the payment has ended and, as far as is known, no money moved.
    pub(super) fn is_given_up(&self) -> bool {
        matches!(self.state.as_str(), "declined" | "not_paid")
    }

    /// Returns true if the charge came too late to pay for the order.
    pub(super) fn is_late(&self) -> bool {
        matches!(self.state.as_str(), "charged_late" | "returned")
    }
}

/// An order that was placed, with its rows of all tables.
#[derive(Debug, Clone)]
pub struct StoredOrder {
    /// Id of the order.
    pub order: Uuid,
    /// Either `placed` or `cancelled`.
    pub state: &'static str,
    /// Row of the order in `orders`.
    pub columns: Option<Rc<OrderColumns>>,
    /// Rows of the order in `order_lines`.
    pub lines: Vec<LineColumns>,
    /// Row of the order in `order_personal`.
    pub personal: Option<Rc<PersonalAtRest>>,
}
