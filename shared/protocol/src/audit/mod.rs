//! The audit log (promise P8) as pure data, in C2SP formats that other tools can read.
//!
//! An entry is a short line of canonical JSON. The entries are the leaves of an RFC 6962 tree,
//! which is stored as tlog-tiles. A signed checkpoint has the number of entries and their root.
//! Anybody with the folder and the verifier key can check all of it, without either agent.

/// Logged events as types, and their canonical form.
pub mod entry;

/// The append-only tree: roots, inclusion and consistency proofs.
pub mod tree;

/// Files of the tree and the entries: paths, widths, bundles.
pub mod tile;

/// A log to which entries are appended: its root and its files.
pub mod growing_tree;

/// Signed size and root of the log.
pub mod checkpoint;

/// Earlier sizes of a log.
pub mod earlier;

/// Durable entries that no checkpoint covers yet.
pub mod journal;

/// Access to a log's files: entries, checkpoint, proofs.
pub mod folder;

/// Faults of a log.
pub mod finding;

/// Reading a folder that was copied while it was written.
pub mod copied;

/// Verification of a whole log, which names the first entry that was changed.
pub mod verify;

/// Proof that one entry is in a log. It is checked without the log.
pub mod prove;

/// Comparison of the logs at the two ends of a tunnel.
pub mod reconcile;
pub use checkpoint::Checkpoint;
pub use entry::{Entry, Event};
