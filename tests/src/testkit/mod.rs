//! The harness: test data, processes, databases and lines; callers that load them; and readers that
//! check the results.
//!
//! Each part gets its inputs as arguments. No part uses the tests and commands above the harness.

// Orders and traffic, made up or real.
pub mod generated;
pub mod personal;
pub mod plan;
pub mod retail;
pub mod traffic;

// Machine, processes, databases and lines.
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

// Disks that hang, and read-only folders.
pub mod lying_disk;

// Callers.
pub mod arrivals;
pub mod histogram;
pub mod http;
pub mod load;
pub mod payers;
pub mod views;
mod wire;

// Results of a run.
pub mod audits;
pub mod freshness;
pub mod ledger_totals;
pub mod memory;
pub mod metrics;
pub mod privacy;
pub mod search;

// A second implementation of the audit log's formats, written from their specifications alone.
pub mod tlog;
