//! The test harness, the simulation and the commands of Bridge.
//!
//! `testkit` is the harness. Its tests run real processes and real databases, and reach the agents
//! only through HTTP, configuration files and the database, as a user does. The end-to-end tests
//! and the commands in `tools` are built on it. `sim` is a simulation without a process or a
//! socket, and uses neither of them.

// Harness for tests and commands.
pub mod testkit;

// Search for a schedule of faults that breaks a promise.
pub mod sim;

// Commands that a contributor starts by `cargo NAME`.
pub mod tools;
