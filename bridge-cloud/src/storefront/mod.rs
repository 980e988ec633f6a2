//! What the storefront calls: reads of the catalogue are answered from the replica, writes go on to the data centre.
//!
//! Modules stand in the order a request meets them. Limits of time and size stand in `listener`, `connection` and `request`;
//! what a request means, in `reads`, `orders`, `payments` and `refunds`.

/// The threads that serve.
mod listener;

/// A connection's bytes, and which connections get on.
mod connection;

/// What every request meets first: reads are answered there, everything else is routed.
mod front;

/// Catalogue reads, from a path to an answer that was built before.
mod reads;

/// Which path is whose, and what every other request passes.
mod router;

/// What every request passes.
mod request;

/// Where writes and their states are found.
mod paths;

/// The document of all that is answered here.
mod openapi;

/// Orders: from a request to a receipt, in one function.
pub mod orders;

/// Payments: from a request to how it stands.
mod payments;

/// Refunds, the same.
mod refunds;

/// What is common to writes: room, the way there and back, answers, refusals.
mod write;

/// What of a write is in the audit log before it goes on.
mod audit;

/// Errors as RFC 9457 problems.
pub mod problem;

/// What the serving threads share.
mod state;

pub use listener::{connections_in_force, start, workers};
pub use state::{Shop, Storefront};
