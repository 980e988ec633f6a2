//! SQLite, the embedded default: connections and transactions.

/// The cause of each error of SQLite.
pub(super) mod blame;

/// Passes rows as JSON.
pub(crate) mod tables;

/// Checks that the file is still the one at its path.
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
    /// SQLite has one writer at a time. A second connection would only wait for the first.
    pub(crate) writer: SqlitePool,
    /// Readers see the last commit and wait for no writer (write-ahead log).
    pub(crate) pool: SqlitePool,
    file: LedgerFile,
}

impl Sqlite {
    /// Opens the file. Creates it if it is missing.
    pub(super) async fn open(path: &Path, connections: u32) -> sqlx::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit is on the disk before the caller gets its answer.
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
        // Only the first connection may create the file.
        writer.set_connect_options(options.clone());
        let readers = pool(connections.saturating_sub(1).max(1));
        Ok(Self { writer, pool: readers.connect_lazy_with(options.read_only(true)), file })
    }

    /// Returns the pool for a single writing statement.
    pub(crate) fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Begins a transaction that may write.
    pub(crate) async fn begin(&self) -> sqlx::Result<Transaction> {
        self.file.check().await?;
        Open::begin(self.writer.acquire().await?, "BEGIN IMMEDIATE").await
    }

    /// Begins an import's transaction. It waits for the lock of the file up to `within`, but no
    /// longer than `TOLD_AFTER`, so that the import can report the wait.
    pub(super) async fn begin_import(&self, within: Duration) -> sqlx::Result<Transaction> {
        self.file.check().await?;
        let within = within.clamp(LEAST_PATIENCE, TOLD_AFTER);
        let begin = AssertSqlSafe(format!("{}; BEGIN IMMEDIATE", busy_timeout(within)));
        let mut open = Open::begin(self.writer.acquire().await?, begin).await?;
        open.connection().execute(AssertSqlSafe(busy_timeout(PATIENCE))).await?;
        Ok(open)
    }

    /// Begins a transaction that cannot write, and whose statements all see one moment.
    pub(super) async fn begin_reading(&self) -> sqlx::Result<Transaction> {
        Open::begin(self.pool.acquire().await?, "BEGIN").await
    }
}

/// A transaction on SQLite.
pub(crate) type Transaction = Open<sqlx::Sqlite>;

/// Longest wait for another process that holds the file, such as a DBA's shell.
const PATIENCE: Duration = Duration::from_secs(5);

/// Shortest wait of an import for the file. Orders hold it for short times.
const LEAST_PATIENCE: Duration = Duration::from_millis(500);

/// Longest wait of an import for the file before it reports the wait.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// Returns the statement that sets the wait for the lock of the file.
fn busy_timeout(time: Duration) -> String {
    format!("PRAGMA busy_timeout = {}", time.as_millis())
}

/// Pause that lets another session take the lock. A session that waits for SQLite's lock tries
/// again after 100 ms at most (`sqliteDefaultBusyCallback`). With a shorter pause, an import would
/// take the lock again before an order sees it free.
pub(super) const TURN: Duration = Duration::from_millis(120);
