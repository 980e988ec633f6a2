//! Steps of every request before any action: id, trace, path and head, authentication, body.

/// Request ids.
pub(super) mod id;

/// Trace contexts.
pub(super) mod trace;

/// Values in path, query and head, and authentication.
pub(super) mod extractors;

/// Bodies.
mod body;
