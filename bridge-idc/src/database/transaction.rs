//! Transactions, whichever database they are on: how one begins, how it is tried again, how it ends, and what an error left
//! behind.
//!
//! Before its COMMIT nothing is left behind, whatever went wrong. Only of a COMMIT whose answer is lost nobody can tell.

use std::io;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::error::LedgerError;
use super::held::{HeldItem, HeldRows, Touched};
use super::pools::Database;
use super::row::AnyRow;
use super::statement::Statement;
use super::{postgres, sqlite};

/// Rounds against other writers.
pub(crate) const TRIES: u32 = 8;

/// How long a row is waited for that somebody else holds.
const HELD_FOR: Duration = Duration::from_secs(5);

/// Between two looks whether it is free: the first and the longest pause.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(320));

/// How long a transaction's statements, and its COMMIT, may take before the database counts as gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a ROLLBACK may take.
const ROLLED_BACK_WITHIN: Duration = Duration::from_secs(1);

/// A database on which transactions begin: a real one, or a model of one.
#[expect(async_fn_in_trait, reason = "whoever calls it knows which database it is")]
pub trait Begins {
    /// One transaction.
    type Own: Ends;

    /// Begins one that may write.
    async fn writing(&self) -> Result<Self::Own, LedgerError>;

    /// Begins one that only reads, and waits for no writer.
    async fn reading(&self) -> Result<Self::Own, LedgerError>;

    /// Begins one of the committer's, on a connection that nothing else uses.
    async fn batch(&self) -> Result<Self::Own, LedgerError>;

    /// Waits for so long, without a connection.
    async fn pause(&self, time: Duration);
}

/// One transaction. Dropped without a commit, it is rolled back.
#[expect(async_fn_in_trait, reason = "whoever calls it knows which database it is on")]
pub trait Ends: Sized {
    /// Makes it durable.
    async fn commit(self) -> sqlx::Result<()>;

    /// Gives back every lock at once; the connection of a transaction that is dropped does so when the server notices.
    async fn rollback(self) -> sqlx::Result<()>;

    /// Gives back what it locked, so that the next try does not meet it. If the database does not answer, the connection is closed.
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

/// On which one.
pub(crate) enum On {
    /// PostgreSQL.
    Postgres(postgres::Transaction),
    /// SQLite.
    Sqlite(sqlite::Transaction),
}

/// Runs the same expression on whichever connection a transaction is on.
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
    /// Begins a transaction that may write. Each statement sees what was committed before it began: after a lock, also what its
    /// last holder wrote.
    pub(crate) async fn begin(&self) -> sqlx::Result<Transaction> {
        let on = match self {
            Self::Postgres(database) => On::Postgres(database.begin().await?),
            Self::Sqlite(database) => On::Sqlite(database.begin().await?),
        };
        Ok(Transaction { on })
    }

    /// Begins one that may write, on a connection of the committer's.
    pub(crate) async fn begin_batch(&self) -> sqlx::Result<Transaction> {
        let on = match self {
            Self::Postgres(database) => On::Postgres(database.begin_batch().await?),
            // Whoever writes waits for its turn at the one connection that does, and is served in the order of asking.
            Self::Sqlite(database) => On::Sqlite(database.begin().await?),
        };
        Ok(Transaction { on })
    }

    /// Begins one of an import's. What somebody else holds as a whole, a table or a file, it waits for no longer than this.
    pub(crate) async fn begin_import(&self, within: Duration) -> sqlx::Result<Transaction> {
        let on = match self {
            // However long it may wait: it looks again and again, with nothing in its hands meanwhile.
            Self::Postgres(database) => On::Postgres(database.begin_import().await?),
            Self::Sqlite(database) => On::Sqlite(database.begin_import(within).await?),
        };
        Ok(Transaction { on })
    }

    /// Asks an import's question about these rows. It locks nothing, and waits no longer than a batch for a table that somebody
    /// has locked.
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

    /// Begins one that only reads. It waits for no writer.
    pub(crate) async fn begin_reading(&self) -> sqlx::Result<Transaction> {
        let on = match self {
            Self::Postgres(database) => On::Postgres(database.begin().await?),
            Self::Sqlite(database) => On::Sqlite(database.begin_reading().await?),
        };
        Ok(Transaction { on })
    }

    /// Begins one that only reads, and whose statements all see one moment.
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
    /// A statement's text for the database that this is on.
    pub(crate) fn text(&self, statement: &Statement) -> &'static str {
        match self.on {
            On::Postgres(_) => statement.postgres,
            On::Sqlite(_) => statement.sqlite,
        }
    }

    /// Waits for what somebody else holds, and takes it; then locks what is to be changed. What of it somebody else holds, which is
    /// not waited for.
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
            // Whoever has begun holds everything.
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

/// Why nothing is known of a transaction's end, or why there was none.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// Nothing was committed, for certain.
    #[error("nothing was committed")]
    Nothing(#[source] LedgerError),
    /// It may be committed. The same again is safe: a key has one effect.
    #[error("it may be committed")]
    Perhaps(#[source] LedgerError),
}

impl NotDone {
    /// How a second try failed, when nothing is known of the first: nothing is known of both.
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

/// Commits. A database that refuses a COMMIT has rolled back; one that is gone has done either.
pub(crate) async fn commit(transaction: impl Ends) -> Result<(), NotDone> {
    match soon(transaction.commit()).await.map_err(LedgerError::from) {
        Err(gone @ LedgerError::Unavailable(_)) => Err(NotDone::Perhaps(gone)),
        ended => ended.map_err(NotDone::Nothing),
    }
}

/// What a transaction came to that commits only what was logged before it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt<V, L> {
    /// It is committed.
    Committed(V),
    /// Nothing is kept: this is to be logged first.
    ToLog(L),
}

/// Commits what a transaction came to.
pub(crate) async fn commit_all<V>(transaction: impl Ends, value: V) -> Result<V, NotDone> {
    commit(transaction).await.map(|()| value)
}

/// Commits what a transaction came to, unless something of it is to be logged first.
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

/// A database that does not answer in time is one that does not answer.
pub(crate) async fn soon<V, E: From<sqlx::Error>>(work: impl Future<Output = Result<V, E>>) -> Result<V, E> {
    timeout(PATIENCE, work).await.map_err(|_| sqlx::Error::Io(io::ErrorKind::TimedOut.into()))?
}

/// Whether it is what [`soon`] says of a database that does not answer.
pub(crate) fn is_late(error: &LedgerError) -> bool {
    matches!(error, LedgerError::Unavailable(sqlx::Error::Io(error)) if error.kind() == io::ErrorKind::TimedOut)
}

/// When a transaction that came to nothing is tried again.
pub(crate) struct Again {
    tries: u32,
    /// How long it has paused so far.
    paused: Duration,
    pause: Duration,
}

impl Again {
    pub(crate) fn new() -> Self {
        Self { tries: TRIES, paused: Duration::ZERO, pause: PAUSES.0 }
    }

    /// After which pause another try may do better, if one may.
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

/// Runs an expression in a transaction of its own, and again while other writers are in the way, or somebody holds what it needs.
/// Between two tries it has no connection: those who wait for one row leave the others to everybody else.
///
/// With `logging` the expression comes to an [`Attempt`], and is committed only if nothing is to be logged first. Whoever began it logs
/// that when no transaction is open, and begins it anew with what the log has: no lock is held while a disk is waited for.
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
            // Boxed: all databases' states together are too large to be moved about inside every caller's.
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
