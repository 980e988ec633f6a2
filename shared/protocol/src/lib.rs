//! The agreement of both agents, as pure code: types, wire format, sealing, order link, feed,
//! waiting room and audit log.
//!
//! Nothing in this crate reads a clock, draws randomness, opens a file or a socket, or speaks SQL.
//! Its manifest has no crate for that. The standard library and `jiff` could do it, so
//! `tests/tests/house/tidy/mod.rs` forbids their use. Time and random bytes come in as arguments.
//! So the same code runs in the agents, under the fuzzer and in the simulation, where one seed
//! decides everything.

#![warn(clippy::missing_errors_doc)]

/// Ids, brands, money, orders: newtypes with one checked constructor each.
pub mod domain;

/// Frames and messages: the bytes on a lane.
pub mod wire;

/// Envelopes that the cloud agent can seal and only the IDC agent can open.
pub mod seal;

/// Wiping of clear text from the stack.
pub mod stack;

/// Delivery of requests over unreliable links: sender and receiver as sans-IO state machines.
pub mod order_link;

/// Replication of the catalogue: publisher and subscriber as sans-IO state machines.
pub mod feed;

/// The queue of a launch: tickets, the draw of the places, admission and the estimated wait.
pub mod waiting_room;

/// C2SP signed notes: short texts signed with Ed25519, such as the sealing-key manifest.
pub mod note;

/// Signed receipts that a storefront gets for committed requests.
pub mod receipt;

/// RFC 6962 hashing: roots and inclusion paths.
pub mod merkle;

/// Random numbers for tests.
#[cfg(test)]
mod dice;

/// The audit log as pure data: entries, an append-only tree over them, its files, checkpoints,
/// proofs and verification.
pub mod audit;
