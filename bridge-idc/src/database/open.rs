//! A pool's connection in use, for one kind of database: with an open transaction, or for reads
//! outside of a transaction.

use std::io;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Database as Driver, Executor, Pool, SqlSafeStr};
use tokio::time::timeout;

/// Longest wait for the answer to a transaction's first statement, on a line that may be dead.
const BEGUN_WITHIN: Duration = Duration::from_secs(2);

/// A pool's connection with an open transaction.
///
/// sqlx's own transaction returns its connection to the pool even after an error, and waits there
/// without limit on a dead line. This one closes a connection whose transaction did not end, which
/// rolls it back.
pub(crate) struct Open<D: Driver> {
    connection: PoolConnection<D>,
    ended: bool,
}

impl<D: Driver> Open<D>
where
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
{
    pub(super) async fn begin(
        connection: PoolConnection<D>,
        statement: impl SqlSafeStr + Send + 'static,
    ) -> sqlx::Result<Self> {
        let mut open = Self { connection, ended: false };
        open.connection().execute(statement).await?;
        Ok(open)
    }

    /// Begins a transaction on a connection of a pool. The statement also tests the connection: if
    /// it was lost since its last use, it is closed, and the next one is tried.
    pub(super) async fn on(pool: &Pool<D>, statement: &'static str) -> sqlx::Result<Self> {
        let mut tries = pool.options().get_max_connections();
        loop {
            let connection = pool.acquire().await?;
            match timeout(BEGUN_WITHIN, Self::begin(connection, statement)).await {
                Ok(Err(_lost)) if tries > 0 => tries -= 1,
                begun => break begun.map_err(|_| sqlx::Error::Io(io::ErrorKind::TimedOut.into()))?,
            }
        }
    }

    pub(crate) async fn commit(mut self) -> sqlx::Result<()> {
        self.connection().execute("COMMIT").await?;
        self.ended = true;
        Ok(())
    }

    pub(super) async fn rollback(mut self) -> sqlx::Result<()> {
        self.connection().execute("ROLLBACK").await?;
        self.ended = true;
        Ok(())
    }

    pub(crate) fn connection(&mut self) -> &mut D::Connection {
        &mut self.connection
    }
}

impl<D: Driver> Drop for Open<D> {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.close_on_drop();
        }
    }
}

/// A pool's connection for reads outside a transaction. It is closed unless it is given back,
/// because the pool would wait without limit for an answer on a dead connection.
pub(crate) struct QuestionConnection<D: Driver> {
    connection: PoolConnection<D>,
    is_answered: bool,
}

impl<D: Driver> QuestionConnection<D> {
    pub(crate) async fn of(pool: &Pool<D>) -> sqlx::Result<Self> {
        Ok(Self { connection: pool.acquire().await?, is_answered: false })
    }

    pub(crate) fn connection(&mut self) -> &mut D::Connection {
        &mut self.connection
    }

    /// Gives the connection back to the pool. Every read on it must have been answered.
    pub(crate) fn give_back(mut self) {
        self.is_answered = true;
    }
}

impl<D: Driver> Drop for QuestionConnection<D> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.connection.close_on_drop();
        }
    }
}
