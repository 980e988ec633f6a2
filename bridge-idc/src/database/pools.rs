//! Connections to whichever database it is. A third one is one more variant here, and one of [`On`](super::transaction::On).

use bridge_runtime::config::Secret;
use tokio::time::sleep;

use super::error::LedgerError;
use super::held::HeldItem;
use super::postgres::{self, Postgres};
use super::sqlite::{self, Sqlite};
use super::url::LedgerUrl;

/// Connections to the database that a URL names. Clones share them.
#[derive(Clone)]
pub enum Database {
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

    /// Whether it has one writer at a time.
    pub(crate) fn has_one_writer(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// What that is which somebody else holds: a table as a whole, where the database tells.
    pub(crate) async fn named(&self, held: HeldItem) -> HeldItem {
        match (self, held) {
            (Self::Postgres(database), HeldItem::Unnamed) => {
                postgres::held::locked_table(&database.pool).await.unwrap_or(HeldItem::Unnamed)
            }
            (_, held) => held,
        }
    }

    /// Who holds this, as far as the database tells.
    pub(crate) async fn holder(&self, held: &HeldItem) -> Option<String> {
        match self {
            Self::Postgres(database) => postgres::held::holder(&database.pool, held).await,
            Self::Sqlite(_) => None,
        }
    }
}
