//! The feed, which makes a replica of the catalogue equal to its source and keeps it so.
//!
//! ```text
//! publisher    head S0 ─> rows by key, page by page ─> changes (S0, S1] ─> complete
//!              ─> changes after S1 ...
//! subscriber   idle ─> asked ─> bootstrapping (the old rows are served) ─> following
//! ```
//!
//! Both machines are sans-IO: one input in, all outputs polled, then sleep until the returned
//! deadline. `now` is the time since the process started, by a clock that never steps back. A
//! change names a key. The key's latest state travels, read after its change was numbered. So it
//! may be newer than its number, but never older.

/// The IDC agent's side.
pub mod publisher;

/// The cloud agent's side.
pub mod subscriber;

/// Checksums by bucket.
pub mod sums;

use std::time::Duration;

use bytes::Bytes;

use crate::domain::catalogue::{EntityKey, Position};

/// Latest state of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Key of the row.
    pub key: EntityKey,
    /// Its message, as `wire::catalogue` defines it for the key's kind; `None` if the row is gone.
    pub row: Option<Bytes>,
}

/// Position of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last number that was given.
    pub position: Position,
    /// Time by the caller's clock. Every change that was committed before it has its number.
    pub swept_at: Duration,
}
