//! The bytes on a lane: a preamble, then length-prefixed frames, each one protobuf message.
//!
//! Wire types are plain and forgiving to read; they become domain types (which are neither) at the edge. The bytes of every
//! message are kept as files (`golden/README.md`): a field's number never changes.

/// Length-prefixed frames and their decoder.
pub mod frame;

/// The lanes of a link and the preamble that opens each.
pub mod lane;

/// Which protocol versions a build speaks, and how two builds agree.
pub mod version;

/// The control lane: hello, heartbeat, goodbye.
pub mod control;

/// The order lanes: what the cloud asks and what the IDC answers.
pub mod order;

/// The payment lane: charges, refunds, and how payments stand.
pub mod payment;

/// The feed lane: what a replica asks and what the IDC publishes.
pub mod feed;

/// What a catalogue row holds.
pub mod catalogue;

/// An order's terms between the wire and the domain.
mod terms;
