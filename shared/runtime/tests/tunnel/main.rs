//! Tests of the tunnel with real QUIC over loopback, and with certificates of Bridge's own
//! authority.
//!
//! `agents` starts tunnels as an agent does. `stranger` is a peer that breaks the rules. Every wait
//! is for an event.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of a test fails the test"
)]

mod agents;
mod stranger;

mod refusals;

mod start;

mod links;

mod feed;

mod payments;

mod misbehaviour;

mod crowds;
