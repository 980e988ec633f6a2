//! The ledger, where orders become durable: brands, SKUs, stock, outcomes and orders in SQL.
//!
//! One flow (`commit`) serves every database: lock and read the rows that the batch mentions, let
//! the pure planner decide, write, commit. The folder of a database has only its SQL and no
//! decisions. Connections, transactions and errors come from `database`, the floor below.

/// The one flow that commits a batch.
mod commit;

/// Search for the request that the database refuses.
mod bisect;

/// The statements that the flow needs.
mod statements;

/// The statements for PostgreSQL.
mod postgres;

/// The statements for SQLite.
mod sqlite;

/// Rows, and their conversion to types of the domain.
mod rows;

/// State of an order, over any database.
mod look_up;

/// Reads outside any batch.
mod read;

/// Outcomes and payments in the order of their keys.
pub mod by_key;

/// The comparison of an agent's keys with those of the ledger.
mod keys;

/// A model of the ledger in plain maps, for tests.
#[cfg(any(test, feature = "testing"))]
pub mod memory;

/// A model of a database at READ COMMITTED, statement by statement, for the simulation.
#[cfg(any(test, feature = "testing"))]
pub mod model;

use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::domain::UnixMicros;
use bridge_protocol::receipt::Receipt;
use bridge_protocol::wire::order::Refusal;
use bridge_runtime::config::Secret;
use tokio::sync::Notify;

use crate::database::postgres::COMMIT_CONNECTIONS;
pub use crate::database::{Applied, COMMITTERS_MAX, LedgerError, NotReady, SqlState};
use crate::database::{Begins, Database, LedgerUrl, Sessions, TELLS_SEQUENCER, Transaction};
use crate::orders::planner::{Awaited, Request};

pub(crate) use bisect::split;
pub use look_up::Question;
pub use read::{StockSum, Totals};
pub(crate) use rows::{BrandRow, brand};

/// The ledger in the database that its URL names.
pub struct Ledger {
    database: Database,
    /// Notified of each commit, which may have moved stock. The sequencer of the catalogue then
    /// need not wait for its next round.
    committed: Arc<Notify>,
}

/// Requests to commit in one transaction.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The requests in the order of admission.
    pub requests: Vec<Request>,
    /// Time at which the batch was put together, by the IDC agent's clock.
    pub at: UnixMicros,
}

/// The end of a batch.
#[derive(Debug)]
pub struct BatchEnd {
    /// The end of each request, in the batch's order.
    pub ends: Vec<RequestEnd>,
    /// The error if the database stopped working. Requests that ended before that are committed.
    pub outage: Option<LedgerError>,
}

/// The end of one request of a batch.
#[derive(Debug)]
pub enum RequestEnd {
    /// The request is answered, and the answer is durable.
    Committed(Committed),
    /// The request had no effect, because another session holds this row. It must be committed
    /// again once the row is free.
    Waits(Awaited),
    /// The request had no effect.
    NotCommitted,
    /// The outcome is unknown. The request must be committed again, which is safe because a key has
    /// one effect.
    Unknown,
}

/// The durable answer to one request. Only a commit creates one, and only it becomes a receipt.
#[derive(Debug)]
pub struct Committed {
    answer: RequestOutcome,
}

/// Most held rows with a batch under way. Each such batch has a connection of its own.
pub const AWAITED_AT_ONCE: usize = 4;
const _: () = assert!(COMMIT_CONNECTIONS as usize == 2 * (COMMITTERS_MAX + AWAITED_AT_ONCE));

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestOutcome {
    /// The outcome is committed.
    Settled {
        /// Content of the receipt.
        receipt: Receipt,
        /// True if an earlier request under the same key committed it.
        replayed: bool,
    },
    /// The request had no effect.
    Refused(Refusal),
}

impl Ledger {
    /// Opens a ledger with at most `connections` shared connections. A PostgreSQL server need not
    /// run yet. An SQLite file is created if it is missing. No migration is applied.
    ///
    /// # Errors
    ///
    /// Fails if the database or its settings cannot be used.
    pub async fn connect(
        url: &LedgerUrl,
        password: Option<&Secret>,
        connections: u32,
    ) -> Result<Self, LedgerError> {
        Ok(Self { database: Database::open(url, password, connections).await?, committed: Arc::default() })
    }

    /// Applies missing migrations and returns them. Several agents may do this at the same time.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer or a migration fails.
    pub async fn migrate(&self) -> Result<Vec<Applied>, LedgerError> {
        self.database.migrate().await
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    ///
    /// Fails if the database does not answer.
    pub async fn ping(&self) -> Result<(), LedgerError> {
        self.database.ping().await
    }

    /// Checks that the settings of its connections are in force and that its commits are durable.
    ///
    /// # Errors
    ///
    /// Fails with the reason as a sentence.
    pub async fn connections(&self) -> Result<(), NotReady> {
        self.database.connections().await
    }

    /// Checks that orders can be committed: the database answers, its tables fit this build, and
    /// its commits are durable.
    ///
    /// # Errors
    ///
    /// Fails with the reason as a sentence.
    pub async fn ready(&self) -> Result<(), NotReady> {
        self.database.ready().await
    }

    /// Returns true if the database has one writer at a time. A second committer would then only
    /// wait for the first one.
    pub fn has_one_writer(&self) -> bool {
        self.database.has_one_writer()
    }

    /// Commits a batch and returns the end of each request.
    ///
    /// A request that the database refuses is found and refused alone. A request that needs a held
    /// row is set apart, and the others do not wait for it. With `awaited`, all requests of the
    /// batch wait for that row. The batch then begins once the row is free, or ends after the
    /// longest wait.
    pub async fn commit(&self, batch: &Batch, awaited: Option<&Awaited>) -> BatchEnd {
        // Boxed, because the flow's state is too large to be a part of every caller's state.
        let end = Box::pin(bisect::commit(&self.database, batch, awaited)).await;
        // This also follows an unknown outcome, because the batch may be committed.
        self.committed.notify_one();
        end
    }

    /// Returns the most file descriptors that the connections need, if `connections` of them are
    /// shared. An SQLite connection needs three.
    pub fn files_max(connections: u32) -> usize {
        3 * usize::try_from(connections + COMMIT_CONNECTIONS).unwrap_or(usize::MAX)
    }

    /// Declares on the connections for batches that this process notifies the sequencer of each
    /// commit.
    pub(crate) fn notifies_sequencer(&self) {
        self.database.set_for(Sessions::Committer, TELLS_SEQUENCER);
    }

    /// Returns the database. The catalogue is in the same one.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Returns the notification of each commit, for one listener.
    pub(crate) fn committed(&self) -> Arc<Notify> {
        self.committed.clone()
    }
}

impl Begins for Ledger {
    type Own = Transaction;

    async fn writing(&self) -> Result<Transaction, LedgerError> {
        self.database.writing().await
    }

    async fn reading(&self) -> Result<Transaction, LedgerError> {
        self.database.reading().await
    }

    async fn batch(&self) -> Result<Transaction, LedgerError> {
        self.database.batch().await
    }

    async fn pause(&self, time: Duration) {
        self.database.pause(time).await;
    }
}

impl From<Arc<Ledger>> for Database {
    /// Returns the connections of a ledger, for code that needs nothing else of it.
    fn from(ledger: Arc<Ledger>) -> Self {
        ledger.database.clone()
    }
}

impl Committed {
    /// Returns the answer.
    pub fn answer(&self) -> &RequestOutcome {
        &self.answer
    }
}
