//! bridge-cloud: stands beside the storefront, seals what is personal and relays it to the data centre.
//!
//! Modules stand in the order an order meets them; `submit_order` in `storefront::orders` is its whole way.

// Every setting, with its default.
pub mod config;

// What is counted.
pub mod metrics;

// HTTP: from a request's bytes to a typed request, and from an answer to a response.
pub mod storefront;

// The catalogue in memory, from which reads are answered.
pub mod replica;

// Whether this agent and the ledger mean the same money.
pub mod currencies;

// Whether there is room for one more: pure.
pub mod admission;

// Whether two requests under one key ask for the same, without keeping what they ask for.
pub mod body_mark;

// Closes an order's personal data; nothing on this side can open it again.
pub mod seal;

// What is known of the data centre's agents.
pub mod data_centre;

// The task that owns the order link, and the handle by which requests reach it.
pub mod order_link;

// The process: what it starts, watches and ends.
pub mod serve;

// The command line.
pub mod cli;
