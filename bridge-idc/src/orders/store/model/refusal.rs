//! Refused statements of the model, as errors of a database driver with an SQLSTATE (PostgreSQL
//! manual, appendix A).

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use sqlx::error::{DatabaseError, ErrorKind};

/// The reason why a statement failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another transaction held the row for longer than the time-out.
    LockTimeout,
    /// Two transactions wait for each other.
    Deadlock,
    /// Another session cancelled the statement.
    Cancelled,
    /// A unique index has the value already.
    Duplicate,
}

impl Refusal {
    fn state(self) -> &'static str {
        match self {
            Self::LockTimeout => "55P03",
            Self::Deadlock => "40P01",
            Self::Cancelled => "57014",
            Self::Duplicate => "23505",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the model refuses a statement: SQL state {}", self.state())
    }
}

impl Error for Refusal {}

impl DatabaseError for Refusal {
    fn message(&self) -> &str {
        "refused by the model"
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.state().into())
    }

    fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Duplicate => ErrorKind::UniqueViolation,
            _ => ErrorKind::Other,
        }
    }
}
