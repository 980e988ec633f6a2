//! Connections to either database. A third database needs one more variant here and one of
//! [`On`](super::transaction::On).

use bridge_runtime::config::Secret;
use tokio::time::sleep;

use super::error::LedgerError;
use super::held::HeldItem;
use super::postgres::{self, Postgres};
use super::sqlite::{self, Sqlite};
use super::url::LedgerUrl;

/// Connections to the database of a URL. Clones share them.
#[derive(Clone)]
pub enum Database {
    /// PostgreSQL.
    Postgres(Postgres),
    /// SQLite.
    Sqlite(Sqlite),
}

/// Runs the same expression on either database. Its field `pool` has the connections for reading,
/// and its method `writer()` returns those for a single writing statement.
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
    /// Opens a database with at most this many connections. PostgreSQL may start later. A missing
    /// SQLite file is created.
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

    /// Returns the login of these connections; `None` on SQLite, which has none.
    pub(crate) async fn login(&self) -> Result<Option<String>, LedgerError> {
        match self {
            Self::Postgres(database) => Ok(Some(database.login().await?)),
            Self::Sqlite(_) => Ok(None),
        }
    }

    /// Pauses, so that another session can take the lock of a database with one writer.
    pub(crate) async fn give_way(&self) {
        match self {
            Self::Postgres(_) => {}
            Self::Sqlite(_) => sleep(sqlite::TURN).await,
        }
    }

    /// Returns the reason why the database cannot be reached, if another attempt finds it.
    pub(crate) async fn why_unreachable(&self) -> Option<LedgerError> {
        match self {
            Self::Postgres(database) => database.why_unreachable().await,
            Self::Sqlite(_) => None,
        }
    }

    /// True if every connection for reading is in use, so that a caller waits for another one to
    /// end. False if a caller would get a free or a new connection, as far as the database answers.
    pub(crate) fn is_every_connection_taken(&self) -> bool {
        let (open, idle, most) = on_database!(*self, database => {
            let pool = &database.pool;
            (pool.size(), pool.num_idle(), pool.options().get_max_connections())
        });
        let idle = u32::try_from(idle).unwrap_or(u32::MAX);
        open.saturating_sub(idle) >= most
    }

    /// True if the database has one writer at a time.
    pub(crate) fn has_one_writer(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// Returns the table that another session has locked, if the database can find it for an
    /// unnamed item.
    pub(crate) async fn named(&self, held: HeldItem) -> HeldItem {
        match (self, held) {
            (Self::Postgres(database), HeldItem::Unnamed) => {
                postgres::held::locked_table(&database.pool).await.unwrap_or(HeldItem::Unnamed)
            }
            (_, held) => held,
        }
    }

    /// Returns the holder of an item, if the database can name it.
    pub(crate) async fn holder(&self, held: &HeldItem) -> Option<String> {
        match self {
            Self::Postgres(database) => postgres::held::holder(&database.pool, held).await,
            Self::Sqlite(_) => None,
        }
    }
}
