//! The outside world for both agents: configuration, telemetry, the tunnel, the admin listener, the
//! audit log's files, an orderly stop.
//!
//! `bridge-protocol` below has the agreement of the agents, and the two agents above have their
//! decisions. Nothing here decides about an order, a payment or a brand. The tunnel carries their
//! frames, and `telemetry::shared` has the metrics of them that both agents share.

#![warn(clippy::missing_errors_doc)]

// Reading of the configuration file, with all mistakes reported at once.
pub mod config;

// Rule for files that keep a secret.
pub mod private;

// Check that a command writes to a folder of its own user.
pub mod owner;

// Folder of a path.
pub mod folder;

// Files that are replaced as a whole.
pub mod whole_file;

// Files beside the audit log's key.
pub mod beside;

// The wall clock.
pub mod clock;

// Logs and metrics.
pub mod telemetry;

// Files that are read again while the agent runs.
pub mod reloaded_files;

// The agent's identity: certificates, trust and revocation, read again when they change.
pub mod identity;

// Secured connections to peers, with lanes.
mod transport;

// Links to the peers: dialling, watching, and ending with a reason.
pub mod tunnel;

// Fields of a request's head: single values and lists.
pub mod fields;

// Things that expire, and warnings before.
pub mod expiry;

// Listening on addresses that may not exist yet.
pub mod address;

// Accepting connections in spite of errors.
pub mod accept;

// The loopback listener for operators: health, metrics, status.
pub mod admin;

// The audit log's files: durable before anyone is told, published every second, recovered after a
// crash.
pub mod audit_log;

// Orderly stop after a signal, and messages to systemd.
pub mod shutdown;

// Limit of open files.
pub mod open_files;

// Protection of the process's memory from core dumps.
pub mod hardening;

// Parts that both command lines share.
pub mod cli;

// Checks of the files that a configuration names.
pub mod check;

/// An agent's state as a page for the terminal.
pub mod status_page;
