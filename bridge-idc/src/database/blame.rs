//! The cause of a database error, in terms that all databases share.

/// The cause of a database error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// A value in the request breaks a rule.
    Request,
    /// The statement needs something that is missing or broken: a right, a function, or a page of a
    /// table.
    Statement,
    /// Somebody cancelled the statement, or a statement time-out did.
    Cancel,
    /// Another transaction held a needed lock for too long.
    Holder,
    /// Another writer was in the way. The same statement may succeed now.
    Contention,
    /// The database itself: unreachable, full, read-only, or shutting down.
    Database,
}
