//! What proves Bridge: real processes, real databases, real invoices, and a line that can be cut between them.
//!
//! `testkit` is the harness: it speaks to the agents as anyone would, over HTTP, configuration files and the database, so
//! that what it finds is what a user gets. The end-to-end tests are built of it, and so are the commands in `tools`. `sim` is
//! a world of its own, without a process or a socket, and uses neither.

// What tests and commands are built of.
pub mod testkit;

// What looks for the schedule that breaks a promise.
pub mod sim;

// What a contributor starts by `cargo NAME`.
pub mod tools;
