//! The tunnel against the real thing: QUIC over loopback, certificates from the authority that ships with Bridge.
//!
//! `agents` starts tunnels as an agent does, `stranger` is a peer that breaks the rules. Every wait is for an event.

mod agents;
mod stranger;

mod refusals;

mod start;

mod links;

mod misbehaviour;
