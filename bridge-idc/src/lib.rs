//! bridge-idc: stands beside the ledger, opens what the cloud sealed and commits it there.
//!
//! Rooms stand in the order an order and a payment meet them, with what they stand on behind them.

// Every setting, with its default.
pub mod config;

// What is counted.
pub mod metrics;

// Orders: received, opened, committed, certified, answered.
pub mod orders;

// What is charged, by which gateway, and what is done while nobody can tell.
pub mod payments;

// What a storefront shows: its changes numbered, its rows published, and nothing else.
pub mod catalogue;

// Personal data at rest, and the keys.
pub mod vault;

// The database under orders, payments and the catalogue.
pub mod database;

// Amounts with decimals, as people and gateways write them.
mod decimal;

// What every importer asks of a file.
pub mod import_file;

// The ledger beside what the audit logs say was committed.
pub mod compare;

// That an agent has had a ledger.
pub mod served_before;

// What is in the agent's way, told to the cloud.
mod readiness;

// The process: what it starts, watches and ends.
pub mod serve;

// The command line.
pub mod cli;
