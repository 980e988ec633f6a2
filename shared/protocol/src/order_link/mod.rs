//! The order link: requests go to the IDC at least once, have their effect once, and are answered or unknown.
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
//! Both are sans-IO: one input in, all outputs polled, then sleep until the returned deadline. `now` is the time since
//! the process started, by a clock that never steps back.

/// The cloud's side.
pub mod sender;

/// What the sender has its shell do.
mod output;

/// What the sender knows of a request.
mod request;

/// What part of a full queue each brand may fill.
pub mod fair_share;

/// What the sender has not sent yet.
mod fair_queue;

/// What the sender knows of a link.
mod link;

/// Which orders the sender is not sure about.
mod unsettled;

/// The IDC's side.
pub mod receiver;

/// What each link may have under way there.
mod shares;

pub use crate::wire::lane::LinkId;
