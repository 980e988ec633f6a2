//! The order link: requests reach the IDC at least once, have their effect once, and end answered
//! or unknown.
//!
//! ```text
//! sender      queued ──> in flight (link, lane, sequence) ──> answered
//!              ^  ^              │ link lost, or no answer          ^
//!              │  └── unknown <──┘                                  │
//!              │         └── the caller gets 202; settling goes on ─┘
//!              └── sealed again by its caller <── no link opens what it is sealed to
//! receiver    received ──> delivered once ──> answered to everyone who asked
//! ```
//!
//! Both machines are sans-IO: one input in, all outputs polled, then sleep until the returned
//! deadline. `now` is the time since the process started, by a clock that never steps back.

/// The cloud agent's side.
pub mod sender;

/// Actions that the sender asks of its shell.
mod output;

/// The sender's state of a request.
mod request;

/// Shares of brands in a full queue.
pub mod fair_share;

/// Credits that agents of the data centre grant, and their classes.
pub mod credits;

/// Limit of what is outstanding at a queue, by its wait and its rate.
pub mod queue_control;

/// Limits while nobody grants any.
pub mod adaptive;

/// Times at which refused callers are to come back.
pub mod come_back;

/// Turns of brands by their weights.
pub mod fair_clock;

/// Requests that the sender has not sent yet.
mod fair_queue;

/// Map that keeps its emptied values.
mod kept_map;

/// Queues of the sender's writes and questions.
mod class_queues;

/// Part of the links' windows for brands with little in flight.
mod reserve;

/// Parts of the links' windows that a brand may use.
mod window_use;

/// The sender's state of a link.
mod link;

/// Orders with writes that are not settled.
mod unsettled;

/// The IDC agent's side.
pub mod receiver;

/// Limits of each link in the receiver.
mod shares;

pub use crate::wire::lane::LinkId;
