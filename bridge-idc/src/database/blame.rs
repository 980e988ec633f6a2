//! Whose fault a database's error is, in the terms that all databases share.

/// Whose fault a database's error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// What was to be written breaks a rule.
    Request,
    /// What the statement needs is missing or broken: a right, a function, a page of a table.
    Statement,
    /// The statement was ended by somebody.
    Cancel,
    /// Another transaction holds what was needed.
    Holder,
    /// Another transaction was in the way; the same may work now.
    Contention,
    /// The database itself: gone, full, read-only, shutting down.
    Database,
}
