//! What can go wrong between Bridge and its database, by whose fault it is. No message holds a value of a row.

use std::fmt;

use sqlx::migrate::MigrateError;

/// What went wrong. What it left behind is not said here, but by where it happened: nothing before a COMMIT, whatever went wrong;
/// in a COMMIT nobody can tell (see [`NotDone`](super::NotDone)).
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database cannot be reached, went away or cannot write: nobody is served.
    #[error("{}", unavailable(.0))]
    Unavailable(#[source] sqlx::Error),
    /// The database refused what was asked; some request in it is to blame.
    #[error("the database refused the batch: {0}")]
    Refused(SqlState),
    /// The database does not do what was asked, for want of a right, of a function, or of a page that can be read: all of it, or only
    /// what one brand or one request needs.
    #[error("the database does not do it: {0}")]
    Denied(SqlState),
    /// Somebody ended the statement: a DBA, or a time-out that the database has for its statements.
    #[error("the statement was cancelled: {0}")]
    Cancelled(SqlState),
    /// Somebody else holds what was needed, for longer than it was waited for.
    #[error("somebody else holds what was needed: {0}")]
    Held(SqlState),
    /// Other writers settled the same keys or moved the same rows, again and again; worth trying again.
    #[error("other writers were faster, several times")]
    Conflict,
    /// A row is not in the form that this build writes.
    #[error("the {table} table holds a row that is not in this build's form: {what}")]
    Corrupt {
        /// Which table.
        table: &'static str,
        /// What is wrong; no value of the row.
        what: &'static str,
    },
    /// The tables could not be brought up to date.
    #[error("the ledger's tables cannot be migrated")]
    Migration(#[source] MigrateError),
    /// The password's file holds no text.
    #[error("the database's password is not UTF-8 text")]
    PasswordNotText,
}

impl LedgerError {
    /// Whether there was no connection in time.
    pub fn is_for_want_of_a_connection(&self) -> bool {
        matches!(self, Self::Unavailable(sqlx::Error::PoolTimedOut))
    }

    /// Whether it may be one request's doing, so that the others can be committed without it.
    pub(crate) fn may_be_one_request_s(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Denied(_) | Self::Cancelled(_) | Self::Conflict)
    }
}

/// A refusal in the database's own terms, without the values that its message may quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlState {
    /// SQLSTATE, or SQLite's extended result code.
    pub code: String,
    /// The constraint that was violated, where the database names it.
    pub constraint: Option<String>,
    /// Where a right is missing: PostgreSQL's own words, which name a table or a function and no value.
    pub denied: Option<String>,
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SQL state {}", self.code)?;
        self.constraint.iter().try_for_each(|constraint| write!(f, ", constraint {constraint}"))?;
        self.denied.iter().try_for_each(|denied| {
            write!(f, ": {denied}; role.sql gives the rights, after each bridge-idc migrate")
        })
    }
}

/// PostgreSQL lets the login in no further: its password is wrong, or there is no such role, or none from there.
const NOT_LET_IN: [&str; 2] = ["28P01", "28000"];

/// What an operator is to look at where the database does nothing. The driver's error follows it, and names the login.
pub(crate) fn unavailable(error: &sqlx::Error) -> &'static str {
    let code = error.as_database_error().and_then(|refusal| refusal.code());
    if code.is_some_and(|code| NOT_LET_IN.contains(&code.as_ref())) {
        "the database does not let this login in: look at the user of ledger.url, and at the password in the file that \
         ledger.password_file names"
    } else {
        "the database does not answer, or cannot work"
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
    /// What was set for a session is not in force in it.
    #[error(
        "what is set for a session of PostgreSQL is not in force in it: {0}. A pooler stands between (PgBouncer, for one) that \
         shares sessions between clients; let ledger.url name PostgreSQL itself"
    )]
    Pooled(&'static str),
    /// It was written with other keys than this agent has.
    #[error(
        "the ledger was written with other keys than this agent's: {0} differ. Agents on one ledger have the same keys: copy the \
         folder from an agent that serves"
    )]
    OtherKeys(String),
}

impl NotReady {
    /// Why there is no connection. A pooler that does not know a session's settings refuses them (protocol_violation).
    pub(super) fn of_connecting(error: sqlx::Error) -> Self {
        match error.as_database_error().and_then(|error| error.code()).as_deref() {
            Some("08P01") => Self::Pooled("it is refused when the agent connects"),
            _ => LedgerError::from(error).into(),
        }
    }
}
