//! Transactions of payments, whichever database they are on: how one begins, and how it ends.

use std::time::Duration;

use tokio::time::sleep;

use super::statements::{Connected, Statements};
use super::{Kind, Ledger, LedgerError, Tx, give_up, postgres, sqlite};
use crate::ledger::transaction::{Database as _, Transaction as _};

/// A database on which transactions of payments begin.
#[expect(async_fn_in_trait, reason = "whoever calls it knows which database it is")]
pub trait Begins {
    /// One transaction.
    type Own: Ends;

    /// Begins one that may write.
    async fn writing(&self) -> Result<Self::Own, LedgerError>;

    /// Begins one that only reads, and waits for no writer.
    async fn reading(&self) -> Result<Self::Own, LedgerError>;

    /// Waits for so long, without a connection.
    async fn pause(&self, time: Duration);
}

/// One transaction. Dropped without a commit, it is rolled back.
#[expect(async_fn_in_trait, reason = "whoever calls it knows which database it is on")]
pub trait Ends: Statements + Sized {
    /// Rolls it back.
    async fn give_up(self);

    /// Makes it durable.
    async fn commit(self) -> Result<(), LedgerError>;

    /// Ends one that was to show what it would come to.
    async fn take_back(self) -> Result<(), LedgerError> {
        self.give_up().await;
        Ok(())
    }
}

/// A transaction of a real ledger's.
pub struct OwnTx(On);

enum On {
    Postgres(postgres::Transaction),
    Sqlite(sqlite::Transaction),
}

impl Begins for Ledger {
    type Own = OwnTx;

    async fn writing(&self) -> Result<OwnTx, LedgerError> {
        Ok(OwnTx(match &self.kind {
            Kind::Postgres(database) => On::Postgres(database.begin().await?),
            Kind::Sqlite(database) => On::Sqlite(database.begin().await?),
        }))
    }

    async fn reading(&self) -> Result<OwnTx, LedgerError> {
        Ok(OwnTx(match &self.kind {
            Kind::Postgres(database) => On::Postgres(database.begin().await?),
            Kind::Sqlite(database) => On::Sqlite(database.begin_reading().await?),
        }))
    }

    async fn pause(&self, time: Duration) {
        sleep(time).await;
    }
}

impl Connected for OwnTx {
    fn tx(&mut self) -> Tx<'_> {
        match &mut self.0 {
            On::Postgres(transaction) => transaction.payments(),
            On::Sqlite(transaction) => transaction.payments(),
        }
    }
}

impl Connected for Tx<'_> {
    fn tx(&mut self) -> Tx<'_> {
        match self {
            Self::Postgres(connection) => Tx::Postgres(connection),
            Self::Sqlite(connection) => Tx::Sqlite(connection),
        }
    }
}

impl Ends for OwnTx {
    async fn give_up(self) {
        match self.0 {
            On::Postgres(transaction) => give_up(transaction).await,
            On::Sqlite(transaction) => give_up(transaction).await,
        }
    }

    async fn commit(self) -> Result<(), LedgerError> {
        match self.0 {
            On::Postgres(transaction) => transaction.commit().await?,
            On::Sqlite(transaction) => transaction.commit().await?,
        }
        Ok(())
    }
}
