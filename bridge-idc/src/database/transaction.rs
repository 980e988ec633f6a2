//! Transactions on either database: how one begins, how it is retried, how it ends, and what an
//! error leaves behind.
//!
//! Before its COMMIT a transaction leaves nothing behind, after any error. Only a COMMIT whose
//! answer is lost has an unknown outcome.

use std::io;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::error::LedgerError;
use super::held::{HeldItem, HeldRows, Touched};
use super::pools::Database;
use super::row::AnyRow;
use super::statement::Statement;
use super::{postgres, sqlite};

/// Most attempts of a transaction that conflicts with other writers.
pub(crate) const TRIES: u32 = 8;

/// Longest wait for a row that another session holds.
const HELD_FOR: Duration = Duration::from_secs(5);

/// First and longest pause between two attempts to lock a row that another session holds.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(320));

/// Time limit for the statements of a transaction, and for its COMMIT. After that the database
/// counts as unavailable.
const PATIENCE: Duration = Duration::from_secs(10);

/// Time limit of a ROLLBACK.
const ROLLED_BACK_WITHIN: Duration = Duration::from_secs(1);

/// A database on which transactions begin: a real one, or a model in a simulation.
#[expect(async_fn_in_trait, reason = "whoever calls it knows which database it is")]
pub trait Begins {
    /// The transaction's type.
    type Own: Ends;

    /// Begins a transaction that may write.
    ///
    /// # Errors
    ///
    /// Fails if the database is not available.
    async fn writing(&self) -> Result<Self::Own, LedgerError>;

    /// Begins a transaction that only reads and waits for no writer.
    ///
    /// # Errors
    ///
    /// Fails if the database is not available.
    async fn reading(&self) -> Result<Self::Own, LedgerError>;

    /// Begins a committer's transaction, on a connection that nothing else uses.
    ///
    /// # Errors
    ///
    /// Fails if the database is not available.
    async fn batch(&self) -> Result<Self::Own, LedgerError>;

    /// Pauses without a connection.
    async fn pause(&self, time: Duration);
}

/// One transaction. If it is dropped without a commit, it is rolled back.
#[expect(async_fn_in_trait, reason = "whoever calls it knows which database it is on")]
pub trait Ends: Sized {
    /// Commits the transaction durably.
    ///
    /// # Errors
    ///
    /// Fails if the database refuses the commit or does not answer. Without an answer the outcome
    /// is unknown.
    async fn commit(self) -> sqlx::Result<()>;

    /// Rolls back and frees every lock at once. A dropped transaction frees its locks only when the
    /// server notices.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer.
    async fn rollback(self) -> sqlx::Result<()>;

    /// Rolls back, so that the next attempt does not meet these locks. If the database does not
    /// answer, the connection is closed.
    async fn give_up(self) {
        if let Ok(Err(error)) = timeout(ROLLED_BACK_WITHIN, self.rollback()).await {
            tracing::debug!(%error, "a transaction was not rolled back, its connection is closed");
        }
    }
}

/// A transaction on a real database.
pub struct Transaction {
    pub(crate) on: On,
}

/// The database of a transaction.
pub(crate) enum On {
    /// PostgreSQL.
    Postgres(postgres::Transaction),
    /// SQLite.
    Sqlite(sqlite::Transaction),
}

/// Runs the same expression on the transaction's connection, for either database.
macro_rules! on_connection {
    ($transaction:expr, $connection:ident => $run:expr) => {
        match &mut $transaction.on {
            $crate::database::transaction::On::Postgres(open) => {
                let $connection = open.connection();
                $run
            }
            $crate::database::transaction::On::Sqlite(open) => {
                let $connection = open.connection();
                $run
            }
        }
    };
}
pub(crate) use on_connection;

impl Database {
    /// Begins a transaction that may write. Each statement sees every commit before it began, so
    /// after waiting for a lock it also sees the changes of the lock's last holder.
    pub(crate) async fn begin(&self) -> sqlx::Result<Transaction> {
        let on = match self {
            Self::Postgres(database) => On::Postgres(database.begin().await?),
            Self::Sqlite(database) => On::Sqlite(database.begin().await?),
        };
        Ok(Transaction { on })
    }

    /// Begins a transaction that may write, on one of the committer's connections.
    pub(crate) async fn begin_batch(&self) -> sqlx::Result<Transaction> {
        let on = match self {
            Self::Postgres(database) => On::Postgres(database.begin_batch().await?),
            // SQLite has one writing connection. The pool serves its users in the order of their
            // requests.
            Self::Sqlite(database) => On::Sqlite(database.begin().await?),
        };
        Ok(Transaction { on })
    }

    /// Begins an import's transaction. On SQLite it waits up to `within` for the lock of the file.
    pub(crate) async fn begin_import(&self, within: Duration) -> sqlx::Result<Transaction> {
        let on = match self {
            // PostgreSQL does not need `within`: the import tries again and again, and holds
            // nothing in between.
            Self::Postgres(database) => On::Postgres(database.begin_import().await?),
            Self::Sqlite(database) => On::Sqlite(database.begin_import(within).await?),
        };
        Ok(Transaction { on })
    }

    /// Runs an import's query for these rows. It locks nothing, and waits for a locked table no
    /// longer than a batch does.
    pub(crate) async fn ask<V: AnyRow>(&self, statement: &Statement, rows: String) -> sqlx::Result<Vec<V>> {
        let on = match self {
            Self::Postgres(database) => On::Postgres(database.begin_import().await?),
            Self::Sqlite(database) => On::Sqlite(database.begin_reading().await?),
        };
        let mut transaction = Transaction { on };
        let sql = transaction.text(statement);
        let found: sqlx::Result<Vec<V>> = on_connection!(transaction, connection =>
            sqlx::query_as(sql).bind(rows).fetch_all(connection).await);
        transaction.give_up().await;
        found
    }

    /// Begins a transaction that only reads. It waits for no writer.
    pub(crate) async fn begin_reading(&self) -> sqlx::Result<Transaction> {
        let on = match self {
            Self::Postgres(database) => On::Postgres(database.begin().await?),
            Self::Sqlite(database) => On::Sqlite(database.begin_reading().await?),
        };
        Ok(Transaction { on })
    }

    /// Begins a transaction that only reads, and whose statements all see one moment.
    pub(crate) async fn snapshot(&self) -> sqlx::Result<Transaction> {
        let on = match self {
            Self::Postgres(database) => On::Postgres(database.snapshot().await?),
            Self::Sqlite(database) => On::Sqlite(database.begin_reading().await?),
        };
        Ok(Transaction { on })
    }
}

impl Begins for Database {
    type Own = Transaction;

    async fn writing(&self) -> Result<Transaction, LedgerError> {
        Ok(self.begin().await?)
    }

    async fn reading(&self) -> Result<Transaction, LedgerError> {
        Ok(self.begin_reading().await?)
    }

    async fn batch(&self) -> Result<Transaction, LedgerError> {
        Ok(self.begin_batch().await?)
    }

    async fn pause(&self, time: Duration) {
        sleep(time).await;
    }
}

impl Transaction {
    /// Returns a statement's text for the database of this transaction.
    pub(crate) fn text(&self, statement: &Statement) -> &'static str {
        match self.on {
            On::Postgres(_) => statement.postgres,
            On::Sqlite(_) => statement.sqlite,
        }
    }

    /// Waits for `awaited` and locks it, then locks the rows to be changed. Returns those among
    /// them that another session holds; it does not wait for them.
    pub(crate) async fn lock(
        &mut self,
        touched: &Touched,
        awaited: Option<&HeldItem>,
    ) -> sqlx::Result<HeldRows> {
        match &mut self.on {
            On::Postgres(transaction) => {
                postgres::held::wait_for(transaction.connection(), awaited).await?;
                postgres::held::lock(transaction.connection(), touched).await
            }
            // A write transaction on SQLite locks the whole file.
            On::Sqlite(_) => Ok(HeldRows::default()),
        }
    }
}

impl Ends for Transaction {
    async fn commit(self) -> sqlx::Result<()> {
        match self.on {
            On::Postgres(transaction) => transaction.commit().await,
            On::Sqlite(transaction) => transaction.commit().await,
        }
    }

    async fn rollback(self) -> sqlx::Result<()> {
        match self.on {
            On::Postgres(transaction) => transaction.rollback().await,
            On::Sqlite(transaction) => transaction.rollback().await,
        }
    }
}

/// Reasons why a transaction is not known to be committed.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// Nothing was committed, for certain.
    #[error("nothing was committed")]
    Nothing(#[source] LedgerError),
    /// The transaction may be committed. A retry is safe, because an idempotency key has one
    /// effect.
    #[error("it may be committed")]
    Perhaps(#[source] LedgerError),
}

impl NotDone {
    /// Combines the failure of a second attempt with an unknown outcome of the first: the outcome
    /// of both is unknown.
    pub(crate) fn after_another(self) -> Self {
        let (Self::Nothing(error) | Self::Perhaps(error)) = self;
        Self::Perhaps(error)
    }
}

impl From<NotDone> for LedgerError {
    fn from((NotDone::Nothing(error) | NotDone::Perhaps(error)): NotDone) -> Self {
        error
    }
}

/// Commits. If the database refuses a COMMIT, it has rolled back. If the database does not answer,
/// the outcome is unknown.
pub(crate) async fn commit(transaction: impl Ends) -> Result<(), NotDone> {
    match soon(transaction.commit()).await.map_err(LedgerError::from) {
        Err(gone @ LedgerError::Unavailable(_)) => Err(NotDone::Perhaps(gone)),
        ended => ended.map_err(NotDone::Nothing),
    }
}

/// The result of a transaction that may commit only what was logged before it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt<V, L> {
    /// The transaction is committed.
    Committed(V),
    /// Nothing is committed, because this result must be logged first.
    ToLog(L),
}

/// Commits the result of a transaction.
pub(crate) async fn commit_all<V>(transaction: impl Ends, value: V) -> Result<V, NotDone> {
    commit(transaction).await.map(|()| value)
}

/// Commits the result of a transaction, unless a part of it must be logged first.
pub(crate) async fn commit_logged<V, L>(
    transaction: impl Ends,
    attempt: Attempt<V, L>,
) -> Result<Attempt<V, L>, NotDone> {
    match attempt {
        Attempt::Committed(_) => commit_all(transaction, attempt).await,
        Attempt::ToLog(_) => {
            transaction.give_up().await;
            Ok(attempt)
        }
    }
}

/// Adds a time limit to work on a database. A database that does not answer in time counts as
/// unavailable.
pub(crate) async fn soon<V, E: From<sqlx::Error>>(work: impl Future<Output = Result<V, E>>) -> Result<V, E> {
    timeout(PATIENCE, work).await.map_err(|_| sqlx::Error::Io(io::ErrorKind::TimedOut.into()))?
}

/// True if this is the error of [`soon`] after its time limit.
pub(crate) fn is_late(error: &LedgerError) -> bool {
    matches!(error, LedgerError::Unavailable(sqlx::Error::Io(error)) if error.kind() == io::ErrorKind::TimedOut)
}

/// Decides when a failed transaction is tried again.
pub(crate) struct Again {
    tries: u32,
    /// Sum of the pauses so far.
    paused: Duration,
    pause: Duration,
}

impl Again {
    pub(crate) fn new() -> Self {
        Self { tries: TRIES, paused: Duration::ZERO, pause: PAUSES.0 }
    }

    /// Returns the pause before another attempt. `None` if another attempt would not help.
    pub(crate) fn may_help(&mut self, error: &LedgerError) -> Option<Duration> {
        match error {
            LedgerError::Conflict => {
                self.tries = self.tries.saturating_sub(1);
                (self.tries > 0).then_some(Duration::ZERO)
            }
            LedgerError::Held(_) if self.paused < HELD_FOR => {
                let pause = self.pause;
                (self.paused, self.pause) = (self.paused + pause, PAUSES.1.min(pause * 2));
                Some(pause)
            }
            _ => None,
        }
    }
}

/// Runs an expression in a transaction of its own. Runs it again while other writers are in the way
/// or another session holds a row that it needs. Between two attempts it has no connection, so
/// requests that wait for one row do not use up the connections of others.
///
/// With `logging` the expression returns an [`Attempt`], which is committed only if nothing must be
/// logged first. The caller writes that log entry without an open transaction and begins again. So
/// no lock is held while a disk is slow.
macro_rules! in_transaction {
    ($database:expr, logging $tx:ident => $work:expr) => {
        $crate::database::in_transaction!($database, writing $tx => $work, and commit_logged)
    };
    ($database:expr, $begin:ident $tx:ident => $work:expr) => {
        $crate::database::in_transaction!($database, $begin $tx => $work, and commit_all)
    };
    ($database:expr, $begin:ident $tx:ident => $work:expr, and $end:ident) => {{
        let mut again = $crate::database::Again::new();
        loop {
            // Boxed, because the combined state of all databases would make every caller's future
            // large.
            let work = Box::pin(async {
                let mut own = $crate::database::Begins::$begin($database).await?;
                let worked = {
                    let $tx = &mut own;
                    $work
                };
                match worked {
                    Ok(value) => Ok((own, value)),
                    Err(error) => {
                        $crate::database::Ends::give_up(own).await;
                        Err(error)
                    }
                }
            });
            let error = match $crate::database::soon(work).await {
                Ok((own, value)) => match $crate::database::$end(own, value).await {
                    Ok(value) => break Ok(value),
                    Err($crate::database::NotDone::Nothing(error)) => error,
                    Err(perhaps @ $crate::database::NotDone::Perhaps(_)) => break Err(perhaps),
                },
                Err(error) => error,
            };
            match again.may_help(&error) {
                Some(pause) if pause.is_zero() => {}
                Some(pause) => $crate::database::Begins::pause($database, pause).await,
                None => break Err($crate::database::NotDone::Nothing(error)),
            }
        }
    }};
}
pub(crate) use in_transaction;
