//! Rows, as their columns have them: texts, numbers and bytes, so that whoever judges them shares no type with who wrote them.

use std::rc::Rc;

use uuid::Uuid;

use crate::vault::PersonalAtRest;

/// A row of `outcomes`: what is settled under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeColumns {
    /// The idempotency key's digest.
    pub key: Vec<u8>,
    /// Whose shop.
    pub brand: String,
    /// `place` or `cancel`.
    pub operation: &'static str,
    /// The order that it is about.
    pub order: Uuid,
    /// Keyed hash of the request.
    pub fingerprint: Vec<u8>,
    /// The outcome's code.
    pub outcome: String,
    /// The SKU that the outcome is about.
    pub sku: Option<String>,
    /// The price that the outcome names, in minor units.
    pub price: Option<i64>,
    /// The currency of that price.
    pub currency: Option<String>,
    /// The ledger's number for it.
    pub position: i64,
    /// Microseconds since 1970.
    pub committed_at: i64,
}

/// A row of `orders`, but for its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderColumns {
    /// Whose shop.
    pub brand: String,
    /// The position of the outcome that placed it.
    pub position: i64,
    /// The storefront's opaque id of the customer.
    pub customer_reference: String,
    /// ISO 4217 code of its amounts.
    pub currency: String,
    /// Minor units.
    pub shipping_fee: i64,
    /// Minor units.
    pub total: i64,
}

/// A row of `order_lines`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineColumns {
    /// From 0.
    pub line_no: i32,
    /// Which SKU, by its row.
    pub sku_id: i64,
    /// Units.
    pub quantity: i64,
    /// Minor units a unit.
    pub unit_price: i64,
}

/// A row of `payments`; times in microseconds by the database's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentColumns {
    /// Its id.
    pub payment: Uuid,
    /// Whose shop.
    pub brand: String,
    /// The order that it pays for.
    pub order: Uuid,
    /// Minor units.
    pub amount: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// What the gateway knows it by.
    pub payment_key: String,
    /// How it stands.
    pub state: String,
    /// Minor units that are back.
    pub refunded: i64,
    /// Why it was declined or not paid.
    pub code: Option<String>,
    /// How often the gateway was asked about it.
    pub asks: i64,
    /// When it is asked about.
    pub next_ask_at: Option<i64>,
    /// When it was begun.
    pub created_at: i64,
    /// When it was no longer in doubt.
    pub concluded_at: Option<i64>,
    /// Until when a request to charge may be on its way.
    pub confirm_until: i64,
    /// When it is looked at again, if it was given up.
    pub look_at: Option<i64>,
}

/// A row of `refunds`; times in microseconds by the database's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundColumns {
    /// Its id.
    pub refund: Uuid,
    /// Of which payment.
    pub payment: Uuid,
    /// Minor units.
    pub amount: i64,
    /// Why.
    pub reason: String,
    /// Nobody asked for it.
    pub automatic: bool,
    /// How it stands.
    pub state: String,
    /// Why it was refused.
    pub code: Option<String>,
    /// How often it was asked for again.
    pub asks: i64,
    /// When it is asked for again.
    pub next_ask_at: Option<i64>,
    /// When it was begun.
    pub created_at: i64,
    /// When it was no longer in doubt.
    pub concluded_at: Option<i64>,
    /// Until when a request to give back may be on its way.
    pub give_back_until: i64,
    /// When it is looked at again, if it was refused after a doubt.
    pub look_at: Option<i64>,
}

/// A row of `payment_requests`, but for its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestColumns {
    /// Keyed hash of the request.
    pub fingerprint: Vec<u8>,
    /// The payment that it is about.
    pub payment: Uuid,
    /// The refund that it asked for.
    pub refund: Option<Uuid>,
}

impl PaymentColumns {
    /// Whether it is over and no money moved, as far as is known.
    pub(super) fn is_given_up(&self) -> bool {
        matches!(self.state.as_str(), "declined" | "not_paid")
    }

    /// Whether its money moved too late to pay for anything.
    pub(super) fn is_late(&self) -> bool {
        matches!(self.state.as_str(), "charged_late" | "returned")
    }
}

/// An order that was placed, as all tables together have it.
#[derive(Debug, Clone)]
pub struct StoredOrder {
    /// Its id.
    pub order: Uuid,
    /// `placed` or `cancelled`.
    pub state: &'static str,
    /// Its row of `orders`.
    pub columns: Option<Rc<OrderColumns>>,
    /// Its lines.
    pub lines: Vec<LineColumns>,
    /// Its row of `order_personal`.
    pub personal: Option<Rc<PersonalAtRest>>,
}
