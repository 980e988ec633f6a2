//! What both agents need to touch the world: configuration, telemetry, the tunnel, the admin listener, an orderly stop.
//!
//! Its neighbours are `bridge-protocol` below, which says what the agents agree on, and the two agents above, which say
//! what they do. Nothing here knows an order, a brand or a ledger.

/// Reads the configuration file, with every mistake reported at once.
pub mod config;
