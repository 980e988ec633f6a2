//! bridge-idc: stands beside the ledger, opens what the cloud sealed and commits it there.
//!
//! Modules stand in the order an order meets them; [`order_core::OrderCore::handle`] is its whole way.

// Every setting, with its default.
pub mod config;

// What is counted.
pub mod metrics;

// The core of all orders: received, opened, committed, certified, answered.
pub mod order_core;

// Orders whose sealing session is not decapsulated yet.
pub mod unopened;

// What waits for the audit log: the receipt of a request before its commit, its outcome before its answer.
pub mod audit_gate;

// The entries themselves.
mod log_entry;

// From a sealed order to a request that can be decided; personal data is encrypted again at once.
pub mod open;

// Personal data at rest, and the keys.
pub mod vault;

// What a batch of orders comes to, as a pure function.
pub mod planner;

// The database under orders, payments and the catalogue.
pub mod database;

// Where orders become durable.
pub mod ledger;

// Amounts with decimals, as people and gateways write them.
mod decimal;

// What is charged, by which gateway, and what is done while nobody can tell.
pub mod payment;

// From what was committed to signed answers.
pub mod receipt;

// What every importer asks of a file.
pub mod import_file;

// What a storefront shows: its changes numbered, its rows published, and nothing else.
pub mod catalogue;

// Which storefront's trace an order belongs to.
pub mod traces;

// The ledger beside what the audit logs say was committed.
pub mod compare;

// That an agent has had a ledger.
pub mod served_before;

// Brands for which the database does nothing.
mod denied;

// What the log is told of a database that does not work.
mod outage;

// What is in the agent's way, told to the cloud.
mod readiness;

// The driver of the order core.
pub mod order_driver;

// The process: what it starts, watches and ends.
pub mod serve;

// The command line.
pub mod cli;
