//! What every request passes before anything is done: an id, a trace, its path and head, who calls, its body.

/// Its id.
pub(super) mod id;

/// The trace that it belongs to.
pub(super) mod trace;

/// Its path, its query and the fields of its head.
pub(super) mod extractors;

/// Who calls.
mod auth;

/// Its body.
mod body;
