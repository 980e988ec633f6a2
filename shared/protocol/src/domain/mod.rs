//! The shop's own words as types: each has one checked constructor, so a value that exists is a value that is right.

/// Microseconds since the Unix epoch, given from outside.
pub mod time;

/// Order ids and idempotency keys.
pub mod id;

/// Who an agent is, as its certificate has it.
pub mod identity;

/// A tenant.
pub mod brand;

/// Integer money with its currency.
pub mod money;

/// What is ordered, in the clear: lines, fee, total.
pub mod order;

/// Names, phones, addresses: values that are sealed, zeroised and never printed.
pub mod personal;

/// The storefront's JSON body, parsed strictly, mistakes named by JSON pointer.
pub mod body;

/// How a request ended in the ledger.
pub mod outcome;

/// Payments and refunds: their ids and their states.
pub mod payment;

/// The storefront's bodies about payments.
pub mod payment_body;

/// Card numbers, to be kept out.
pub mod card_number;

/// The digits of all scripts.
mod digits;

/// Countries by their codes.
pub mod country;

/// What is on sale: rows of the catalogue by their keys, and how far a reader of their changes is.
pub mod catalogue;

/// Which trace a request belongs to.
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
