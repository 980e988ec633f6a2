//! The harness: data, processes, databases and lines to start, callers to load them with, and readers of what came of it.
//!
//! A part takes what it needs as arguments and knows nothing of the tests and commands above it.

// What a run does, made up or real.
pub mod generated;
pub mod personal;
pub mod plan;
pub mod retail;
pub mod traffic;

// What it runs on.
pub mod database;
pub mod dba;
pub mod frame_tap;
pub mod machine;
pub mod ports;
pub mod postgres;
pub mod proc_stat;
pub mod process;
mod relay_thread;
pub mod sandbox;
pub mod site;
pub mod tied;
pub mod wan;

// Disks that hang, and folders that nobody writes to.
pub mod lying_disk;

// Who calls.
pub mod histogram;
pub mod http;
pub mod load;
pub mod payers;
pub mod views;

// What came of it.
pub mod audits;
pub mod freshness;
pub mod ledger_totals;
pub mod memory;
pub mod metrics;
pub mod privacy;
pub mod search;

// The audit log's formats once more, from their texts alone.
pub mod tlog;
