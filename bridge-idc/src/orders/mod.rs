//! Orders: sealed orders are opened and committed, and their answers go back signed.
//!
//! Modules are in the order in which an order passes them. [`core::OrderCore::handle`] shows its
//! whole way. The core does no input or output. The driver does all of it, and the store talks to
//! the database.

/// The core of all orders: received, opened, committed, signed, answered.
pub mod core;

/// Orders whose sealing session is not decapsulated yet.
pub mod unopened;

/// The order of audit log and effect: a request's receipt is logged before its commit, its outcome
/// before its answer.
pub mod audit_gate;

/// Audit log entries about requests.
mod log_entry;

/// Opening of a sealed order. Its personal data is encrypted again at once.
pub mod open;

/// The outcomes of a batch of orders, computed by a pure function.
pub mod planner;

/// The ledger, where orders become durable.
pub mod store;

/// Signed answers for committed requests.
pub mod receipt;

/// The storefront's trace of each order.
pub mod traces;

/// Brands for which the database rejects all writes.
pub(crate) mod denied;

/// Log lines about a database that does not work.
mod outage;

/// The driver of the core.
pub mod driver;
