//! Payments in the ledger: short transactions, each behind the lock of its order's row. None of them asks a gateway.
//!
//! What happens to an order's payments and refunds, its cancellation included, waits for that one lock: so an order is
//! charged once, refunds never exceed what was paid, and money that comes in for a cancelled order is seen to.

/// Charges and refunds begun.
mod begin;

/// What the gateway's answers come to.
mod conclude;

/// Rows between SQL and the domain's types.
mod rows;

/// Questions, and rows that are due.
mod read;

use std::io;
use std::time::Duration;

use bridge_protocol::wire::order::Refusal;
use sqlx::{PgConnection, SqliteConnection};
use tokio::time::{Instant, sleep, timeout};

use super::transaction::{Database as _, Transaction as _, give_up};
use super::{Kind, Ledger, LedgerError, postgres, sqlite};
use crate::payment::Payment;

pub(super) use conclude::refund_cancelled;
pub use conclude::{Concluded, Resolved, Told, Verdict};
pub use read::{Doubt, DuePayment, DueRefund, Sums};

/// Rounds against other writers.
const TRIES: u32 = 8;

/// How long an order's row is waited for that somebody else holds.
const HELD_FOR: Duration = Duration::from_secs(5);

/// Between two looks whether it is free: the first and the longest pause.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(320));

/// How long a transaction's statements, and its COMMIT, may take before the database counts as gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a request to charge or to give back comes to at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun<T> {
    /// It is durable, and the gateway is to be asked by whoever is told this.
    New(T),
    /// An earlier request under the same key is: here is how it stands.
    Known(T),
    /// It had no effect.
    Refused(Refusal),
}

/// A refund that was begun: its payment with all refunds, and which of them it is.
pub type BegunRefund = (Payment, bridge_protocol::domain::RefundId);

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

/// A connection with a transaction open on it, to either database.
pub(in crate::ledger) enum Tx<'t> {
    /// PostgreSQL.
    Postgres(&'t mut PgConnection),
    /// SQLite.
    Sqlite(&'t mut SqliteConnection),
}

/// A transaction of its own.
enum OwnTx {
    Postgres(postgres::Transaction),
    Sqlite(sqlite::Transaction),
    /// One whose changes are taken back at its end.
    Rehearsal(Box<OwnTx>),
}

impl OwnTx {
    /// Begins one that may write.
    async fn writing(ledger: &Ledger) -> Result<Self, LedgerError> {
        Ok(match &ledger.kind {
            Kind::Postgres(database) => Self::Postgres(database.begin().await?),
            Kind::Sqlite(database) => Self::Sqlite(database.begin().await?),
        })
    }

    /// Begins one that shows what a writing one would come to.
    async fn rehearsing(ledger: &Ledger) -> Result<Self, LedgerError> {
        Self::writing(ledger).await.map(|own| Self::Rehearsal(Box::new(own)))
    }

    /// Begins one that only reads, and waits for no writer.
    async fn reading(ledger: &Ledger) -> Result<Self, LedgerError> {
        Ok(match &ledger.kind {
            Kind::Postgres(database) => Self::Postgres(database.begin().await?),
            Kind::Sqlite(database) => Self::Sqlite(database.begin_reading().await?),
        })
    }

    fn tx(&mut self) -> Tx<'_> {
        match self {
            Self::Postgres(transaction) => transaction.payments(),
            Self::Sqlite(transaction) => transaction.payments(),
            Self::Rehearsal(own) => own.tx(),
        }
    }

    async fn give_up(self) {
        match self {
            Self::Postgres(transaction) => give_up(transaction).await,
            Self::Sqlite(transaction) => give_up(transaction).await,
            Self::Rehearsal(own) => Box::pin(own.give_up()).await,
        }
    }

    async fn commit(self) -> Result<(), LedgerError> {
        match self {
            Self::Postgres(transaction) => transaction.commit().await?,
            Self::Sqlite(transaction) => transaction.commit().await?,
            Self::Rehearsal(own) => own.give_up().await,
        }
        Ok(())
    }
}

/// When a transaction that came to nothing is tried again.
struct Again {
    tries: u32,
    until: Instant,
    pause: Duration,
}

impl Again {
    fn new() -> Self {
        Self { tries: TRIES, until: Instant::now() + HELD_FOR, pause: PAUSES.0 }
    }

    /// Whether another try may do better, once it is time for it.
    async fn may_help(&mut self, error: &LedgerError) -> bool {
        match error {
            LedgerError::Conflict => {
                self.tries = self.tries.saturating_sub(1);
                self.tries > 0
            }
            LedgerError::Held(_) if Instant::now() < self.until => {
                sleep(self.pause).await;
                self.pause = PAUSES.1.min(self.pause * 2);
                true
            }
            _ => false,
        }
    }
}

/// Runs the same expression on whichever database a transaction is on.
macro_rules! on_connection {
    ($tx:expr, $connection:ident => $run:expr) => {
        match $tx {
            $crate::ledger::payments::Tx::Postgres(connection) => {
                let $connection = &mut **connection;
                $run
            }
            $crate::ledger::payments::Tx::Sqlite(connection) => {
                let $connection = &mut **connection;
                $run
            }
        }
    };
}
use on_connection;

/// A statement that reads alike in both databases.
macro_rules! common {
    ($file:literal) => {
        include_str!(concat!("common/", $file, ".sql"))
    };
}
use common;

/// Runs an expression in a transaction of its own, and again while other writers are in the way, or somebody holds what it needs.
/// Between two tries it has no connection: those who wait for one row leave the others to everybody else.
macro_rules! in_transaction {
    ($ledger:expr, $begin:ident $tx:ident => $work:expr) => {{
        let mut again = $crate::ledger::payments::Again::new();
        loop {
            // Boxed: both databases' states together are too large to be moved about inside every caller's.
            let work = Box::pin(async {
                let mut own = $crate::ledger::payments::OwnTx::$begin($ledger).await?;
                let worked = {
                    let mut $tx = own.tx();
                    $work
                };
                match worked {
                    Ok(value) => Ok((own, value)),
                    Err(error) => {
                        own.give_up().await;
                        Err(error)
                    }
                }
            });
            let error = match $crate::ledger::payments::soon(work).await {
                Ok((own, value)) => match $crate::ledger::payments::soon(own.commit()).await {
                    Ok(()) => break Ok(value),
                    Err(error @ $crate::ledger::LedgerError::Unavailable(_)) => {
                        break Err($crate::ledger::payments::NotDone::Perhaps(error));
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if !again.may_help(&error).await {
                break Err($crate::ledger::payments::NotDone::Nothing(error));
            }
        }
    }};
}
use in_transaction;

/// A database that does not answer in time is one that does not answer.
async fn soon<V>(work: impl Future<Output = Result<V, LedgerError>>) -> Result<V, LedgerError> {
    let late = |_| LedgerError::Unavailable(sqlx::Error::Io(io::ErrorKind::TimedOut.into()));
    timeout(PATIENCE, work).await.map_err(late)?
}
