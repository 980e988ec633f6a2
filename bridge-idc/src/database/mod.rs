//! The database: connections, transactions, what went wrong and what it left behind, migrations.
//!
//! The one floor under orders, payments and the catalogue, whose statements are theirs. A database's own folder says how it is
//! connected to, how its transactions begin, and whose fault its errors are. Nothing here knows an order.

/// Which database, by its URL.
mod url;

/// Its connections.
mod pools;

/// PostgreSQL.
pub(crate) mod postgres;

/// SQLite, the embedded default.
pub(crate) mod sqlite;

/// Whose fault a database's error is.
mod blame;

/// What can go wrong, by whose fault.
mod error;

/// From the driver's errors to these.
mod faults;

/// What somebody else holds.
mod held;

/// A connection in use.
mod open;

/// Transactions: how one begins, is tried again, and ends.
pub(crate) mod transaction;

/// A connection that somebody keeps.
mod kept;

/// What is set for sessions, and what is heard of other processes' commits.
mod sessions;

/// A statement in each database's SQL.
mod statement;

/// Rows as structs.
mod row;

/// Migrations, one list a database, in the binary.
mod migrate;

/// Batches that an agent commits side by side at most, each on a connection of its own.
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
