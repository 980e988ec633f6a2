//! What both agents of Bridge must agree on, as pure code.
//!
//! Nothing in this crate reads a clock, draws randomness, opens a file or a socket, or speaks SQL. Its manifest
//! has no crate for that; what the standard library and `jiff` could do, `tests/tests/house/tidy/mod.rs` forbids. Time and random
//! bytes come in as arguments, so the same code runs in the agents, under the fuzzer and in the simulation, where one seed
//! decides everything.

/// Ids, brands, money, orders: newtypes with one checked constructor each.
pub mod domain;

/// Frames and messages: what stands on a lane, byte by byte.
pub mod wire;

/// Envelopes that the cloud can close and only the IDC can open.
pub mod seal;

/// Clear text is wiped from the stack of whoever handled it.
pub mod stack;

/// Delivery of requests over links that die: sender and receiver as sans-IO state machines.
pub mod order_link;

/// Replication of the catalogue: publisher and subscriber as sans-IO state machines.
pub mod feed;

/// C2SP signed notes: short texts under Ed25519, such as the sealing-key manifest.
pub mod note;

/// What a storefront gets for a committed request, signed by the IDC.
pub mod receipt;

/// RFC 6962 hashing: roots and inclusion paths.
pub mod merkle;

/// The audit log as pure data: entries, an append-only tree over them, its files, checkpoints, proofs, verification.
pub mod audit;
