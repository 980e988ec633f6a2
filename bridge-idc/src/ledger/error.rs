//! What can go wrong between the ledger and its database, by whose fault it is. No message holds a value of a row.

use std::fmt;

use bridge_runtime::audit_log::DoorError;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

use super::{postgres, sqlite};

/// Why nothing can be said about a batch, or nothing of it was committed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database cannot be reached, went away or cannot write. Whether the batch was committed is not known; the
    /// same batch may be committed again, since what was settled is replayed.
    #[error("the database does not answer, or cannot work")]
    Unavailable(#[source] sqlx::Error),
    /// The database refused the batch, which was rolled back; some request in it is to blame.
    #[error("the database refused the batch: {0}")]
    Refused(SqlState),
    /// Other writers settled the same keys or moved the same rows, again and again; rolled back, worth trying again.
    #[error("other writers were faster, several times")]
    Conflict,
    /// The database refused a request, and while the others were committed without it, something else failed. What came
    /// before is committed; the same batch may be committed again.
    #[error("part of the batch is committed, then something else failed")]
    Partly(#[source] Box<LedgerError>),
    /// A row is not in the form that this build writes.
    #[error("the {table} table holds a row that is not in this build's form: {what}")]
    Corrupt {
        /// Which table.
        table: &'static str,
        /// What is wrong; no value of the row.
        what: &'static str,
    },
    /// What was to be committed is not in the audit log: rolled back.
    #[error("it cannot be logged, so it is not committed")]
    Unlogged(#[source] DoorError),
    /// The tables could not be brought up to date.
    #[error("the ledger's tables cannot be migrated")]
    Migration(#[source] MigrateError),
    /// The password's file holds no text.
    #[error("the database's password is not UTF-8 text")]
    PasswordNotText,
}

impl LedgerError {
    /// Whether it is certain that nothing of the batch was committed, so that its callers may be told so.
    pub fn left_nothing(&self) -> bool {
        !matches!(self, Self::Unavailable(_) | Self::Partly(_))
    }
}

/// A refusal in the database's own terms, without the values that its message may quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlState {
    /// SQLSTATE, or SQLite's extended result code.
    pub code: String,
    /// The constraint that was violated, where the database names it.
    pub constraint: Option<String>,
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SQL state {}", self.code)?;
        self.constraint.iter().try_for_each(|constraint| write!(f, ", constraint {constraint}"))
    }
}

/// Whose fault a database's error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// What was to be written breaks a rule.
    Request,
    /// Another transaction was in the way; the same may work now.
    Contention,
    /// The database itself: full, read-only, shutting down, without the table or the right.
    Database,
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        let Some(refusal) = error.as_database_error() else { return Self::Unavailable(error) };
        let code = refusal.code().unwrap_or_default();
        let blame = if refusal.try_downcast_ref::<PgDatabaseError>().is_some() {
            postgres::blame(&code)
        } else if refusal.try_downcast_ref::<SqliteError>().is_some() {
            sqlite::blame(code.parse().unwrap_or_default())
        } else {
            Blame::Database
        };
        match blame {
            Blame::Contention => Self::Conflict,
            Blame::Database => Self::Unavailable(error),
            Blame::Request => Self::Refused(SqlState {
                code: code.into_owned(),
                constraint: refusal.constraint().map(str::to_owned),
            }),
        }
    }
}

/// Why the ledger cannot take orders yet.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// It does not answer.
    #[error(transparent)]
    Unavailable(#[from] LedgerError),
    /// No migration was ever applied.
    #[error("the database has no ledger in it: run bridge-idc migrate")]
    Empty,
    /// Its tables are older than this build.
    #[error("the ledger's tables are at version {found}, this build needs {needed}: run bridge-idc migrate")]
    Old {
        /// What was applied.
        found: i64,
        /// What this build needs.
        needed: i64,
    },
    /// Its tables are newer than this build.
    #[error(
        "the ledger's tables are at version {found}, newer than this build's {needed}: upgrade bridge-idc"
    )]
    New {
        /// What was applied.
        found: i64,
        /// What this build needs.
        needed: i64,
    },
    /// What it has acknowledged may be lost with its power.
    #[error("PostgreSQL acknowledges before it is durable: {0} is off, turn it on")]
    NotDurable(&'static str),
}
