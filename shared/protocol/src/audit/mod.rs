//! The audit log (promise P8) as pure data, in the C2SP forms that other people's tools read.
//!
//! An entry is a short line of canonical JSON; the entries are the leaves of an RFC 6962 tree; the tree is stored as
//! tlog-tiles, and a signed checkpoint says how many entries there are and what their root is. Whoever has the folder
//! and the verifier key can check all of it, without either agent.

/// What is logged: typed events, and their one canonical form.
pub mod entry;

/// The append-only tree: roots, inclusion and consistency proofs.
pub mod tree;

/// Where the tree and the entries lie: paths, widths, bundles.
pub mod tile;

/// A log while entries are appended: its root and its files.
pub mod growing_tree;

/// How many entries there are and what their root is, signed.
pub mod checkpoint;

/// What a log was before.
pub mod earlier;

/// Durable entries that no checkpoint covers yet.
pub mod journal;

/// A log's files, from wherever they are: entries, checkpoint, proofs.
pub mod folder;

/// What can be wrong with a log.
pub mod finding;

/// A log that is written while it is read.
pub mod copied;

/// Checks a whole log, and names the first entry that is not as it was.
pub mod verify;

/// A proof that one entry is in a log, which is checked without the log.
pub mod prove;

/// Compares what the two ends of a tunnel logged.
pub mod reconcile;
pub use checkpoint::Checkpoint;
pub use entry::{Entry, Event};
