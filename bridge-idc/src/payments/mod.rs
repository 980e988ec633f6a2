//! Payments: an attempt is committed before the gateway is asked, and whatever leaves it in doubt is asked about again.
//!
//! ```text
//! asked ──> committed ──> gateway ──> concluded ──> answered
//!               │            └─ no proof ──> unknown ─┐
//!               └─ crash, cut ───────────────────> reconciler (rows that are due) ──> concluded
//! ```
//!
//! The one mechanism for doubt is a row's `next_ask_at`: it is set before the gateway is asked, so that a crash, a time-out
//! and a lost answer all end in the same place. It tells no request that is on its way from a pause: until when nobody may say that
//! no money moved are columns of their own, `confirm_until` and `give_back_until`. What was given up or refused is looked at by
//! `look_at`. The
//! transactions are the [`store`]'s.

/// What is asked, and how a payment stands.
mod model;

/// What a gateway is asked and what it can answer.
pub mod gateway;

/// What is done about a payment in doubt.
pub mod policy;

/// Payments and refunds in the database: one transaction a step, behind the lock of the order's row.
pub mod store;

/// How a request ended for now.
pub mod end;

/// Payments as they are asked for.
pub mod service;

/// What is in doubt, asked about.
pub mod reconcile;

/// Whom to answer on the payment lane.
pub mod core;

/// What of a payment is in the audit log before it goes on.
pub mod audit;

/// The driver of the core.
pub mod driver;

/// An operator's word about what the gateway leaves in doubt.
pub mod operator;

/// A gateway's hints.
pub mod webhook;

/// `[payments]`.
pub mod config;

pub use model::{Charge, ChargeRequest, GiveBack, GiveBackRequest, Payment, Refund};
