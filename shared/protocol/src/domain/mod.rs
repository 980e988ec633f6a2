//! The shop's terms as types. Each type has one checked constructor, so an existing value is valid.

/// Wall-clock time in microseconds. It comes in from outside.
pub mod time;

/// Order ids and idempotency keys.
pub mod id;

/// An agent's identity, as its certificate has it.
pub mod identity;

/// A brand: one tenant.
pub mod brand;

/// Integer money with its currency.
pub mod money;

/// The clear part of an order: lines, fee, total.
pub mod order;

/// Personal values, such as names and addresses. They are sealed, zeroised and never printed.
pub mod personal;

/// The storefront's JSON body of an order, parsed strictly. Mistakes are named by JSON pointer.
pub mod body;

/// Outcomes of a request in the ledger.
pub mod outcome;

/// Payments and refunds: their ids and states.
pub mod payment;

/// The storefront's JSON bodies about payments.
pub mod payment_body;

/// Search for card numbers, so that they can be refused.
pub mod card_number;

/// The digits of all scripts.
mod digits;

/// Countries by their codes.
pub mod country;

/// Rows of the catalogue by their keys, and a reader's position among their changes.
pub mod catalogue;

/// Trace context of a request.
pub mod trace;

pub use brand::Brand;
pub use id::{IdempotencyKey, KeyDigest, OrderId};
pub use money::{Currency, Money};
pub use order::{Line, OrderTerms, Quantity, Sku};
pub use outcome::Outcome;
pub use payment::{PaymentId, PaymentKey, PaymentState, ReasonCode, RefundId, RefundState};
pub use personal::{Personal, PersonalData, PersonalField};
pub use time::UnixMicros;
pub use trace::TraceParent;
