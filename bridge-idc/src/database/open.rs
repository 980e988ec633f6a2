//! A pool's connection with an open transaction, for one kind of database.

use sqlx::pool::PoolConnection;
use sqlx::{Database as Driver, Executor, SqlSafeStr};

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
