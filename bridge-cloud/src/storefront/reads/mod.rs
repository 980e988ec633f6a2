//! Reads of the catalogue: from a path and a query to an answer that was built before.

/// A read's whole way.
pub(super) mod catalogue;

/// The queries of reads.
pub(super) mod query;

/// Percent signs in paths and queries.
mod escape;

/// One thread's view of the replica, kept current.
pub(super) mod thread_view;
