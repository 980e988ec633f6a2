//! The storefront's API. Catalogue reads are answered from the replica, and writes go to the data
//! centre.
//!
//! Modules are in the order in which a request passes them. Limits of time and size are in
//! `listener`, `connection` and `request`; the meaning of requests is in `reads`, `orders`,
//! `payments` and `refunds`.

/// Serving threads.
mod listener;

/// A connection's bytes, and the choice of a connection that must make room.
mod connection;

/// Entry of every request: answers reads and routes the rest.
mod front;

/// Catalogue reads, from a path to a prebuilt answer.
mod reads;

/// Paths, and the layers around all other requests.
mod router;

/// Steps of every request: id, trace, authentication, body.
mod request;

/// Paths of writes and their states.
mod paths;

/// The OpenAPI document.
mod openapi;

/// Orders: from a request to a receipt, in one function.
pub mod orders;

/// Payments: from a request to its state.
mod payments;

/// Refunds: from a request to its state.
mod refunds;

/// Common parts of writes: admission, the way there and back, answers, refusals.
mod write;

/// Audit entries of writes.
mod audit;

/// Errors as RFC 9457 problems.
pub mod problem;

/// State that the serving threads share.
mod state;

pub use listener::{connections_in_force, start, workers};
pub use state::{Shop, Storefront};
