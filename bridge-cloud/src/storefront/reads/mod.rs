//! Reads of the catalogue: from a path and a query to a prebuilt answer.

/// The whole way of a read.
pub(super) mod catalogue;

/// Queries of reads.
pub(super) mod query;

/// Percent escapes in paths and queries.
mod escape;

/// One thread's view of the replica, kept current.
pub(super) mod thread_view;
