//! bridge-cloud: the agent beside the storefront, which seals personal data and relays orders to
//! the data centre.
//!
//! Modules are in the order in which an order passes them. `submit_order` in `storefront::orders`
//! shows its whole way.

#![warn(clippy::missing_errors_doc)]

// Every setting with its default.
pub mod config;

// Metrics.
pub mod metrics;

// HTTP: from a request's bytes to a typed request, and from an answer to a response.
pub mod storefront;

// The catalogue in memory, for reads.
pub mod replica;

// Comparison of this agent's currencies with the ledger's.
pub mod currencies;

// Decision if there is room for one more request; pure.
pub mod admission;

// Comparison of two requests under one key, without keeping their content.
pub mod body_mark;

// Sealing of an order's personal data. Nothing on this side can open it again.
pub mod seal;

// State of the data centre's agents.
pub mod data_centre;

// The task that owns the order link, and the handle for requests.
pub mod order_link;

// The process: start, supervision and end.
pub mod serve;

// The command line.
pub mod cli;
