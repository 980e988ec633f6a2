//! What every request passes before anything is done: an id, a trace, its path and head, who calls, its body.

/// Its id.
pub(super) mod id;

/// The trace that it belongs to.
pub(super) mod trace;

/// Its path, its query and the fields of its head, and who calls.
pub(super) mod extractors;

/// Its body.
mod body;
