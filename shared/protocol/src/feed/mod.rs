//! The feed: how a replica of the catalogue becomes equal to its source, and stays so.
//!
//! ```text
//! publisher    head S0 ─> rows page by page, by key ─> changes (S0, S1] ─> complete ─> changes after S1 ...
//! subscriber   idle ─> asked ─> bootstrapping (the old rows are served) ─> following
//! ```
//!
//! Both are sans-IO: one input in, all outputs polled, then sleep until the returned deadline. `now` is the time since
//! the process started, by a clock that never steps back. A change names a key, and what travels is that key's last
//! state, read after its change was numbered: it may be newer than its number, never older.

/// The IDC's side.
pub mod publisher;

/// The cloud's side.
pub mod subscriber;

/// Checksums by bucket.
pub mod sums;

use std::time::Duration;

use bytes::Bytes;

use crate::domain::catalogue::{EntityKey, Position};

/// The last state of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which row.
    pub key: EntityKey,
    /// Its message, as `wire::catalogue` defines it for the key's kind; `None` when it is gone.
    pub row: Option<Bytes>,
}

/// How far the source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last number given.
    pub position: Position,
    /// Everything that was committed before this moment of the caller's clock has its number.
    pub swept_at: Duration,
}
