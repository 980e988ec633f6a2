//! What both agents need to touch the world: configuration, telemetry, the tunnel, the admin listener, an orderly stop.
//!
//! Its neighbours are `bridge-protocol` below, which says what the agents agree on, and the two agents above, which say
//! what they do. Nothing here decides anything about an order, a payment or a brand: the tunnel carries their frames, and
//! `telemetry::shared` has the metrics that both agents have of them.

// Reads the configuration file, with every mistake reported at once.
pub mod config;

// Which files keep a secret.
pub mod private;

// Whose folder a command writes to.
pub mod owner;

// The folder that a name stands in.
pub mod folder;

// Files that are replaced as a whole.
pub mod whole_file;

// What stands beside the audit log's key.
pub mod beside;

// The wall clock.
pub mod clock;

// Logs and metrics.
pub mod telemetry;

// Files that are read again while the agent runs.
pub mod reloaded_files;

// Who this agent is: certificates, trust and revocation, read again when they change.
pub mod identity;

// Secured connections to peers, and lanes on them.
mod transport;

// Links to the peers: kept up, watched, and torn down with a reason.
pub mod tunnel;

// Fields of a request's head: one value or a list, as each is.
pub mod fields;

// What ends by itself, and is warned about before.
pub mod expiry;

// Addresses to listen on, whether or not they are there already.
pub mod address;

// Accepting connections, whatever comes in between.
pub mod accept;

// The loopback listener an operator asks: health, metrics, status.
pub mod admin;

// The audit log's files: durable before anyone is told, published every second, recovered after a crash.
pub mod audit_log;

// From a signal to an orderly end, and what systemd is told of it.
pub mod shutdown;

// How many files the process may have open.
pub mod open_files;

// What the process gives up at its start, so that no core dump holds personal data.
pub mod hardening;

// What both command lines have in common.
pub mod cli;

/// An agent's state as a page for the terminal.
pub mod status_page;
