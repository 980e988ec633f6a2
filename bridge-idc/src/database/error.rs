//! Errors of the ledger's database, sorted by cause. No message contains a value of a row.

use std::fmt;

use sqlx::migrate::MigrateError;

/// An error of the database. If it comes before a COMMIT, nothing is committed. If the COMMIT
/// itself failed, the outcome may be unknown (see [`NotDone`](super::NotDone)).
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database cannot be reached, lost the connection, or cannot write. No request can be
    /// served.
    #[error("{}", unavailable(.0))]
    Unavailable(#[source] sqlx::Error),
    /// The database refused a value. One request of the batch is the cause.
    #[error("the database refused the batch: {0}")]
    Refused(SqlState),
    /// A right, a function or a readable page is missing. This may affect all requests, the
    /// requests of one brand, or a single request.
    #[error("the database refuses the statement: {0}")]
    Denied(SqlState),
    /// The statement was cancelled by a DBA or by a statement time-out of the database.
    #[error("the statement was cancelled: {0}")]
    Cancelled(SqlState),
    /// Another session held a needed lock for longer than the statement waits.
    #[error("somebody else holds a row or a table that was needed: {0}")]
    Held(SqlState),
    /// Other writers changed the same keys or rows in every attempt. A later attempt may succeed.
    #[error("other writers changed the same rows during every attempt")]
    Conflict,
    /// A row does not have the form that this build writes.
    #[error("the {table} table holds a row that is not in this build's form: {what}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The mistake, without any value of the row.
        what: &'static str,
    },
    /// The login may not change the tables.
    #[error(
        "this login may not change the ledger's tables: run `bridge-idc migrate` as their owner, and set ledger.migrate = false \
         for the agent (docs/dba.md, Install, step 1)"
    )]
    NotTheOwner(#[source] MigrateError),
    /// Other sessions use what a migration needs, and did not give way.
    #[error(
        "a migration needs what another session uses ({holder}). It gave way and tried again for {seconds} s, and is not applied: \
         let that session end its transaction, then run `bridge-idc migrate` again"
    )]
    TablesInUse {
        /// The session, and the table if it is one.
        holder: String,
        /// Time for which it was tried, in seconds.
        seconds: u64,
    },
    /// A migration failed.
    #[error("the ledger's tables cannot be migrated")]
    Migration(#[source] MigrateError),
    /// The password file is not UTF-8 text.
    #[error("the database's password is not UTF-8 text")]
    PasswordNotText,
}

impl LedgerError {
    /// Makes the error of a pool that had no free connection in time.
    #[cfg(test)]
    pub(crate) fn for_want_of_a_connection() -> Self {
        Self::Unavailable(sqlx::Error::PoolTimedOut)
    }

    /// True if the pool had no free connection in time.
    pub fn is_for_want_of_a_connection(&self) -> bool {
        matches!(self, Self::Unavailable(sqlx::Error::PoolTimedOut))
    }

    /// True if one request may be the cause, so that the other requests can be committed without
    /// it.
    pub(crate) fn may_be_one_request_s(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Denied(_) | Self::Cancelled(_) | Self::Conflict)
    }
}

/// A refusal in the database's own terms, without the values that its message may quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlState {
    /// SQLSTATE, or SQLite's extended result code.
    pub code: String,
    /// The violated constraint, if the database names it.
    pub constraint: Option<String>,
    /// The reason and what to do. It contains no value.
    pub denied: Option<String>,
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SQL state {}", self.code)?;
        self.constraint.iter().try_for_each(|constraint| write!(f, ", constraint {constraint}"))?;
        self.denied.iter().try_for_each(|denied| write!(f, ": {denied}"))
    }
}

/// SQLSTATE for rows that are not there (`no_data`).
const NO_DATA: &str = "02000";

impl SqlState {
    /// Returns the state of a batch of whose new orders the database did not insert all rows. It
    /// reports no error of its own.
    pub(crate) fn rows_dropped() -> Self {
        let why = "rows of new orders are missing after their insert; a trigger of your own on orders, order_lines, \
                   order_personal or launch_purchases returns NULL (docs/dba.md, The tables)";
        Self { code: NO_DATA.to_owned(), constraint: None, denied: Some(why.to_owned()) }
    }
}

/// PostgreSQL refuses the login: wrong password, unknown role, or no entry for this host in
/// pg_hba.conf.
const NOT_LET_IN: [&str; 2] = ["28P01", "28000"];

/// Returns a hint for the operator if the database cannot be used. The driver's error follows the
/// hint and names the login.
pub(crate) fn unavailable(error: &sqlx::Error) -> &'static str {
    let code = error.as_database_error().and_then(|refusal| refusal.code());
    if code.is_some_and(|code| NOT_LET_IN.contains(&code.as_ref())) {
        "the database does not let this login in: look at the user of ledger.url, and at the password in the file that \
         ledger.password_file names"
    } else {
        "the database does not answer, or cannot work"
    }
}

/// Reasons why the ledger cannot take orders yet.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// The database does not answer.
    #[error(transparent)]
    Unavailable(#[from] LedgerError),
    /// The database has no tables yet: no migration was applied.
    #[error("the database has no ledger in it: run bridge-idc migrate")]
    Empty,
    /// The tables are older than this build.
    #[error("the ledger's tables are at version {found}, this build needs {needed}: run bridge-idc migrate")]
    Old {
        /// The applied version.
        found: i64,
        /// The version that this build needs.
        needed: i64,
    },
    /// The tables are newer than this build.
    #[error(
        "the ledger's tables are at version {found}, newer than this build's {needed}: upgrade bridge-idc"
    )]
    New {
        /// The applied version.
        found: i64,
        /// The version that this build needs.
        needed: i64,
    },
    /// PostgreSQL acknowledges commits that a power loss may destroy.
    #[error("PostgreSQL acknowledges before it is durable: {0} is off, turn it on")]
    NotDurable(&'static str),
    /// A setting of the session is not in force.
    #[error(
        "a setting of the session is not in force in PostgreSQL: {0}. A pooler stands in between, such as PgBouncer, that \
         shares sessions between clients; let ledger.url name PostgreSQL itself"
    )]
    Pooled(&'static str),
    /// The ledger was written with other keys than this agent's.
    #[error(
        "the ledger was written with other keys than this agent's: {0} differ. Agents on one ledger have the same keys: copy the \
         folder from an agent that serves"
    )]
    OtherKeys(String),
}

impl NotReady {
    /// Returns the reason why connecting failed. A pooler refuses settings that it does not know
    /// with SQLSTATE 08P01 (protocol_violation).
    pub(super) fn of_connecting(error: sqlx::Error) -> Self {
        match error.as_database_error().and_then(|error| error.code()).as_deref() {
            Some("08P01") => Self::Pooled("it is refused when the agent connects"),
            _ => LedgerError::from(error).into(),
        }
    }
}
