//! Payments: each charge or refund is committed before the gateway is asked, and one of unknown
//! outcome is asked about again.
//!
//! ```text
//! request ──> committed ──> gateway ──> concluded ──> answered
//!               │              └─ no proof ──> unknown ─┐
//!               └─ crash, cut ──────────────────────────┴─> reconciler (due rows) ──> concluded
//! ```
//!
//! The column `next_ask_at` of a row handles every doubt. It is set before the gateway is asked, so
//! a crash, a time-out and a lost answer all make the row due. It does not tell if a request is
//! still on its way to the gateway. The columns `confirm_until` and `give_back_until` do: before
//! that time, nobody may conclude that no money moved. A request to charge that ended without an
//! outcome ends `confirm_until`, so that it can be repeated; an operator must wait for longer. The
//! column `look_at` makes payments that were given up and refunds that were refused due for another
//! look. The transactions are in [`store`].

/// Requests, and the state of payments and refunds.
mod model;

/// The interface to a gateway.
pub mod gateway;

/// The next step for a payment of unknown outcome.
pub mod policy;

/// Payments and refunds in the database: one transaction for each step, under the lock of the
/// order's row.
pub mod store;

/// The end of a request.
pub mod end;

/// The service that handles requests.
pub mod service;

/// The reconciler, which asks about payments and refunds of unknown outcome.
pub mod reconcile;

/// The core of the payment lane.
pub mod core;

/// Audit log entries of payments, and their order relative to commits and answers.
pub mod audit;

/// The driver of the core.
pub mod driver;

/// An operator's decision about a payment or refund of unknown outcome.
pub mod operator;

/// A gateway's webhooks.
pub mod webhook;

/// Section `[payments]` of the configuration.
pub mod config;

pub use model::{Charge, ChargeRequest, GiveBack, GiveBackRequest, Payment, Refund};
