//! The database: connections, transactions, what went wrong and what it left behind, migrations.
//!
//! The one floor under orders, payments and the catalogue, whose statements are theirs. A database's own folder says how it is
//! connected to, how its transactions begin, and whose fault its errors are. Nothing here knows an order.

/// Which database, by its URL.
mod url;

/// PostgreSQL.
pub(crate) mod postgres;

/// SQLite, the embedded default.
pub(crate) mod sqlite;

/// Whose fault a database's error is.
mod blame;

/// What can go wrong, by whose fault.
mod error;

/// What somebody else holds.
mod held;

/// A connection with a transaction open on it.
mod open;

/// Transactions: how one begins, is tried again, and ends.
pub(crate) mod transaction;

/// A statement in each database's SQL.
mod statement;

/// Rows as structs.
mod row;

/// Migrations, one list a database, in the binary.
mod migrate;

use bridge_runtime::config::Secret;
use tokio::time::sleep;

pub(crate) use error::held;
pub use error::{LedgerError, NotReady, SqlState};
pub use held::Held;
pub(crate) use held::{HeldRows, Key, Touched};
pub use migrate::Applied;
use postgres::Postgres;
pub(crate) use row::{AnyRow, row};
use sqlite::Sqlite;
pub(crate) use statement::{Statement, common, each};
pub(crate) use transaction::{Again, commit, in_transaction, on_connection, soon, take_back};
pub use transaction::{Begins, Ends, NotDone, Transaction};
pub use url::LedgerUrl;

/// Connections to the database that a URL names. Clones share them.
#[derive(Clone)]
pub(crate) enum Database {
    /// PostgreSQL.
    Postgres(Postgres),
    /// SQLite.
    Sqlite(Sqlite),
}

/// Runs the same expression on whichever database it is: `pool` has its connections for reading, `writer()` those for one
/// statement that writes.
macro_rules! on_database {
    ($which:expr, $database:ident => $run:expr) => {
        match &$which {
            $crate::database::Database::Postgres($database) => $run,
            $crate::database::Database::Sqlite($database) => $run,
        }
    };
}
pub(crate) use on_database;

impl Database {
    /// Opens it with at most so many connections. A PostgreSQL need not be up yet; an SQLite file is made if there is none.
    pub(crate) async fn open(
        url: &LedgerUrl,
        password: Option<&Secret>,
        connections: u32,
    ) -> Result<Self, LedgerError> {
        Ok(match url {
            LedgerUrl::Postgres(url) => Self::Postgres(Postgres::open(url, password, connections)?),
            LedgerUrl::Sqlite(path) => Self::Sqlite(Sqlite::open(path, connections).await?),
        })
    }

    /// Lets whoever waits for the one lock of a database that has one writer have it.
    pub(crate) async fn give_way(&self) {
        match self {
            Self::Postgres(_) => {}
            Self::Sqlite(_) => sleep(sqlite::TURN).await,
        }
    }

    /// Who holds this, as far as the database tells.
    pub(crate) async fn holder(&self, held: &Held) -> Option<String> {
        match self {
            Self::Postgres(database) => postgres::held::holder(&database.pool, held).await,
            Self::Sqlite(_) => None,
        }
    }
}
