//! The database floor: connections, transactions, errors and their effects, migrations.
//!
//! Orders, payments and the catalogue share it, and keep their own statements. The folder of each
//! database says how to connect, how a transaction begins, and what causes each error. Nothing here
//! knows an order.

/// Chooses a database by its URL.
mod url;

/// Connections to a database.
mod pools;

/// PostgreSQL.
pub(crate) mod postgres;

/// SQLite, the embedded default.
pub(crate) mod sqlite;

/// The cause of a database error.
mod blame;

/// Errors of the database, sorted by cause.
mod error;

/// Converts the driver's errors to Bridge's.
mod faults;

/// Items that another session holds.
mod held;

/// A connection in use.
mod open;

/// Begins, retries and ends transactions.
pub(crate) mod transaction;

/// A connection outside the pools.
mod kept;

/// Settings of sessions, and notifications of other processes' commits.
mod sessions;

/// A statement in each database's SQL.
mod statement;

/// Rows as structs.
mod row;

/// Migrations, built into the binary: one list for each database.
mod migrate;

/// Most batches that an agent commits at the same time, each on a connection of its own.
pub const COMMITTERS_MAX: usize = 8;

pub(crate) use error::unavailable;
pub use error::{LedgerError, NotReady, SqlState};
pub(crate) use faults::{held, missing_right};
pub use held::HeldItem;
pub(crate) use held::{HeldRows, Key, Touched};
pub(crate) use kept::KeptConnection;
pub use migrate::Applied;
pub(crate) use open::QuestionConnection;
pub use pools::Database;
pub(crate) use pools::on_database;
pub(crate) use row::{AnyRow, row};
pub(crate) use sessions::{Sessions, TELLS_SEQUENCER};
pub(crate) use statement::{Statement, common, each, handed_over};
pub(crate) use transaction::{Again, commit, commit_all, commit_logged, in_transaction, on_connection, soon};
pub use transaction::{Attempt, Begins, Ends, NotDone, Transaction};
pub use url::LedgerUrl;
