//! Orders: what the cloud sealed is opened and committed, and its answer goes back signed.
//!
//! Modules stand in the order an order meets them; [`core::OrderCore::handle`] is its whole way. The core and what it asks do no
//! input and output; the driver does all of it, and the store is the ledger's part of it.

/// The core of all orders: received, opened, committed, certified, answered.
pub mod core;

/// Orders whose sealing session is not decapsulated yet.
pub mod unopened;

/// What waits for the audit log: the receipt of a request before its commit, its outcome before its answer.
pub mod audit_gate;

/// The entries themselves.
mod log_entry;

/// From a sealed order to a request that can be decided; personal data is encrypted again at once.
pub mod open;

/// What a batch of orders comes to, as a pure function.
pub mod planner;

/// Where orders become durable.
pub mod store;

/// From what was committed to signed answers.
pub mod receipt;

/// Which storefront's trace an order belongs to.
pub mod traces;

/// Brands for which the database does nothing.
pub(crate) mod denied;

/// What the log is told of a database that does not work.
mod outage;

/// The driver of the core.
pub mod driver;
