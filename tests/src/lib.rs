//! What proves Bridge: real processes, real databases, real invoices, and a line that can be cut between them.
//!
//! The library is the harness; `cargo demo` is its first user, the end-to-end tests are the others. It speaks to the
//! agents as anyone would, over HTTP, configuration files and the database, so that what it finds is what a user gets.

/// What a run does: stock, orders, cancellations.
pub mod plan;

/// Made-up people for the orders.
pub mod personal;

/// An invented launch.
pub mod made_up;

/// A year of real invoices.
pub mod retail;

/// A storefront's HTTP client.
pub mod http;

/// Concurrent callers.
pub mod load;

/// How long things took.
pub mod histogram;

/// Agents as child processes.
pub mod process;

/// Which database a bridge commits to.
pub mod database;

/// A temporary PostgreSQL.
pub mod postgres;

/// The line between the agents.
pub mod wiretap;

/// A whole bridge on this machine.
pub mod site;

/// The search for personal values where none may be.
pub mod search;

/// What the ledger must hold, and what it holds.
pub mod books;

/// What an agent says of itself.
pub mod metrics;

/// `cargo demo`.
pub mod demo;
