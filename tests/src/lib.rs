//! What proves Bridge: real processes, real databases, real invoices, and a line that can be cut between them.
//!
//! The library is the harness; `cargo demo` is its first user, the end-to-end tests are the others. It speaks to the
//! agents as anyone would, over HTTP, configuration files and the database, so that what it finds is what a user gets.

// How each of its commands ends.
pub mod command;

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
pub mod plot;
pub mod privacy;
pub mod search;

// The audit log's formats once more, from their texts alone.
pub mod tlog;

// All of that as one command.
pub mod demo;

// What it costs, beside what a user has today.
pub mod measure;

// Disks that hang, and folders that nobody writes to.
pub mod lying_disk;

// What a power loss leaves, and what has to be in it.
pub mod power;

// What breaks it, while it is under load.
pub mod faults;

// What looks for the schedule that breaks a promise.
pub mod sim;

// What looks for the input that breaks a parser.
pub mod fuzz;

// What is checked before a change is taken.
pub mod verify;
