//! SQLite, the embedded default: how its file is opened, and how a transaction on it begins.

/// Whose fault its errors are.
pub(super) mod blame;

/// Rows as JSON.
pub(crate) mod tables;

/// Whether the file is still the one at its path.
mod file;

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor as _};

use self::file::LedgerFile;
use super::open::Open;

/// Connections to an SQLite file. Clones share them.
#[derive(Clone)]
pub struct Sqlite {
    /// SQLite has one writer at a time; a second connection would only wait for the first.
    pub(crate) writer: SqlitePool,
    /// Readers see the last commit and wait for nobody (WAL).
    pub(crate) pool: SqlitePool,
    file: LedgerFile,
}

impl Sqlite {
    /// Opens the file; makes it if there is none.
    pub(super) async fn open(path: &Path, connections: u32) -> sqlx::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit is on the disk before it is answered.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(PATIENCE)
            .disable_statement_logging();
        let file = LedgerFile::at(path);
        let pool = |connections| {
            let file = file.clone();
            let pool = SqlitePoolOptions::new().max_connections(connections).acquire_timeout(PATIENCE);
            pool.after_connect(move |_, _| {
                let file = file.clone();
                Box::pin(async move { file.check().await })
            })
        };
        let writer = pool(1).connect_with(options.clone().create_if_missing(true)).await?;
        // Only its first connection may make the file.
        writer.set_connect_options(options.clone());
        let readers = pool(connections.saturating_sub(1).max(1));
        Ok(Self { writer, pool: readers.connect_lazy_with(options.read_only(true)), file })
    }

    /// For a statement that writes.
    pub(crate) fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Begins a transaction that may write.
    pub(crate) async fn begin(&self) -> sqlx::Result<Transaction> {
        self.file.check().await?;
        Open::begin(self.writer.acquire().await?, "BEGIN IMMEDIATE").await
    }

    /// Begins one of an import's, which waits no longer than this for whoever holds the file, nor longer than until whoever imports
    /// is to be told.
    pub(super) async fn begin_import(&self, within: Duration) -> sqlx::Result<Transaction> {
        self.file.check().await?;
        let within = within.clamp(LEAST_PATIENCE, TOLD_AFTER);
        let begin = AssertSqlSafe(format!("{}; BEGIN IMMEDIATE", busy_timeout(within)));
        let mut open = Open::begin(self.writer.acquire().await?, begin).await?;
        open.connection().execute(AssertSqlSafe(busy_timeout(PATIENCE))).await?;
        Ok(open)
    }

    /// Begins one that sees one moment and cannot write.
    pub(super) async fn begin_reading(&self) -> sqlx::Result<Transaction> {
        Open::begin(self.pool.acquire().await?, "BEGIN").await
    }
}

/// A transaction on SQLite.
pub(crate) type Transaction = Open<sqlx::Sqlite>;

/// How long another process (a DBA's shell) may hold the file.
const PATIENCE: Duration = Duration::from_secs(5);

/// The least that an import waits for the file: an order holds it now and then.
const LEAST_PATIENCE: Duration = Duration::from_millis(500);

/// The most that an import waits for the file before it says so.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// Has a connection wait so long for whoever holds the file.
fn busy_timeout(time: Duration) -> String {
    format!("PRAGMA busy_timeout = {}", time.as_millis())
}

/// Whoever waits for SQLite's lock looks again after 100 ms at most (`sqliteDefaultBusyCallback`). Without a pause longer
/// than that, an import would take it again before an order sees that it was free.
pub(super) const TURN: Duration = Duration::from_millis(120);
