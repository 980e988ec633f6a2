//! The bytes on a lane: a preamble, then length-prefixed frames with one protobuf message each.
//!
//! Wire types are plain and read tolerantly. They are converted to strict domain types at the edge.
//! The bytes of every message are kept as files (`golden/README.md`), so a field's number never
//! changes.

/// Length-prefixed frames and their decoder.
pub mod frame;

/// The lanes of a link and the preamble that opens each.
pub mod lane;

/// Over TCP: the opening of each connection, and the messages of a link's anchor.
pub mod tcp;

/// Protocol versions of a build, and the agreement of two builds on one.
pub mod version;

/// The control lane: hello, heartbeat, goodbye.
pub mod control;

/// The order lanes: requests of the cloud agent and answers of the IDC agent.
pub mod order;

/// The payment lane: charges, refunds and states of payments.
pub mod payment;

/// The feed lane: requests of a replica and data of the IDC agent.
pub mod feed;

/// Content of the catalogue's rows.
pub mod catalogue;

/// Conversion of an order's terms between wire and domain.
mod terms;
