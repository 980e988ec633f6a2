//! bridge-idc: the agent beside the ledger. It opens the orders that the cloud agent sealed, and
//! commits them.
//!
//! Modules are in the order in which an order and a payment pass them. The modules that these rest
//! on come after them.

#![warn(clippy::missing_errors_doc)]

// Every setting with its default.
pub mod config;

// Metrics.
pub mod metrics;

// Orders: received, opened, committed, signed and answered.
pub mod orders;

// Launches: added, listed and ended by an operator.
pub mod launches;

// Payments: charges and refunds through a gateway, and the resolution of unknown outcomes.
pub mod payments;

// The catalogue: its changes are numbered, and only its public columns are published.
pub mod catalogue;

// Encryption of personal data at rest, and the keys for it.
pub mod vault;

// The database under orders, payments and the catalogue.
pub mod database;

// Decimal amounts.
mod decimal;

// Checks that every importer makes on its file.
pub mod import_file;

// Comparison of the ledger with the commits that the audit logs record.
pub mod compare;

// A mark in the state folder: this agent has served a ledger before.
pub mod served_before;

// The obstacles of this agent, reported to the cloud agents.
mod readiness;

// The process: start, supervision and end.
pub mod serve;

// The command line.
pub mod cli;
