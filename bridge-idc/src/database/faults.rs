//! Converts the driver's errors to Bridge's, by the cause that each database's `blame` file gives.

use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::SqliteError;

use super::blame::Blame;
use super::error::{LedgerError, SqlState};
use super::held::HeldItem;
use super::{postgres, sqlite};

/// PostgreSQL's SQLSTATE for a missing right (insufficient_privilege).
const NO_RIGHT: &str = "42501";

/// Start of PostgreSQL's own message for that code.
const DENIED: &str = "permission denied for ";

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        let Some(refusal) = error.as_database_error() else { return Self::Unavailable(error) };
        let code = refusal.code().unwrap_or_default();
        let blame = if refusal.try_downcast_ref::<SqliteError>().is_some() {
            sqlite::blame::of(code.parse().unwrap_or_default())
        } else {
            postgres::blame::of(&code)
        };
        let state = || state_of(refusal);
        match blame {
            Blame::Request => Self::Refused(state()),
            Blame::Statement => Self::Denied(state()),
            Blame::Cancel => Self::Cancelled(state()),
            Blame::Holder => Self::Held(state()),
            Blame::Contention => Self::Conflict,
            Blame::Database => Self::Unavailable(error),
        }
    }
}

/// Converts an error of a migration. Its database error has no value of a row.
pub(super) fn of_migrating(error: MigrateError) -> LedgerError {
    if cause(&error).and_then(DatabaseError::code).is_some_and(|code| code == NO_RIGHT) {
        return LedgerError::NotTheOwner(error);
    }
    match error {
        MigrateError::Execute(error) => error.into(),
        error => LedgerError::Migration(error),
    }
}

/// True if a migration waited in vain for a lock of another session.
pub(super) fn is_held(error: &MigrateError) -> bool {
    let code = cause(error).and_then(DatabaseError::code);
    code.is_some_and(|code| postgres::blame::of(&code) == Blame::Holder)
}

/// Returns the database's error, if it is the cause of a failed migration.
fn cause(error: &MigrateError) -> Option<&dyn DatabaseError> {
    match error {
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => cause.as_database_error(),
        _ => None,
    }
}

fn state_of(refusal: &dyn DatabaseError) -> SqlState {
    let code = refusal.code().unwrap_or_default();
    // A trigger can raise this code with any text. So only PostgreSQL's own message is kept.
    let is_denied = code == NO_RIGHT && refusal.message().starts_with(DENIED);
    SqlState {
        code: code.to_string(),
        constraint: refusal.constraint().map(str::to_owned),
        denied: is_denied.then(|| {
            format!("{}; role.sql gives the rights, after each bridge-idc migrate", refusal.message())
        }),
    }
}

/// Returns the missing right, if the error reports one.
pub(crate) fn missing_right(error: &sqlx::Error) -> Option<SqlState> {
    error.as_database_error().map(state_of).filter(|state| state.denied.is_some())
}

/// Returns the held item, if the error reports a lock of another session. The error does not name
/// the row.
pub(crate) fn held(error: &sqlx::Error) -> Option<HeldItem> {
    let refusal = error.as_database_error()?;
    let code = refusal.code()?;
    if refusal.try_downcast_ref::<SqliteError>().is_none() {
        return (postgres::blame::of(&code) == Blame::Holder).then_some(HeldItem::Unnamed);
    }
    // SQLITE_BUSY and SQLITE_LOCKED, with any extended code.
    let code: i32 = code.parse().ok()?;
    matches!(code & 0xff, 5 | 6).then_some(HeldItem::File)
}
