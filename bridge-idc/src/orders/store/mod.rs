//! The ledger: where orders become durable. Brands, SKUs, stock, outcomes and orders in SQL.
//!
//! One flow (`commit`) over any database: read what the batch mentions under lock, let the pure planner decide, write,
//! commit. A database's own folder holds its SQL and nothing that decides. Connections, transactions and errors are those of
//! `database`, the floor below.

/// The one flow that commits a batch.
mod commit;

/// Finds the request that the database refuses.
mod bisect;

/// What the flow asks of a database.
mod statements;

/// Its statements on PostgreSQL.
mod postgres;

/// Its statements on SQLite.
mod sqlite;

/// Rows, between the domain's types and SQL's.
mod rows;

/// How an order stands, over any database.
mod look_up;

/// Questions outside any batch.
mod read;

/// What it has under each key, in their order.
pub mod by_key;

/// Which keys it was written with.
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

pub use look_up::Question;
pub use read::{StockSum, Totals};
pub(crate) use rows::{BrandRow, brand};

/// A ledger in the database that its URL names.
pub struct Ledger {
    database: Database,
    /// Told of each commit, which may have moved stock: whoever numbers the catalogue's changes need not wait for more.
    committed: Arc<Notify>,
}

/// Requests to be committed in one transaction, and when they were put together.
#[derive(Debug, Clone)]
pub struct Batch {
    /// In the order in which they were admitted.
    pub requests: Vec<Request>,
    /// The IDC's clock.
    pub at: UnixMicros,
}

/// What became of a batch.
#[derive(Debug)]
pub struct BatchEnd {
    /// One a request, in the batch's order.
    pub ends: Vec<RequestEnd>,
    /// Why the database could not work, if it could not; whatever came before that is committed.
    pub outage: Option<LedgerError>,
}

/// What became of one request of a batch.
#[derive(Debug)]
pub enum RequestEnd {
    /// It is answered, durably.
    Committed(Committed),
    /// Nothing of it was left behind: somebody else holds this. To be committed again once that is free.
    Waits(Awaited),
    /// Nothing of it was left behind.
    NotCommitted,
    /// Nobody can tell. To be committed again, which is safe because a key has one effect.
    Unknown,
}

/// What one request came to, durable. Only a commit makes one, and receipts are made only from such.
#[derive(Debug)]
pub struct Committed {
    answer: RequestOutcome,
}

/// Things that somebody else holds and that are waited for at a time, each on a connection of its own.
pub const AWAITED_AT_ONCE: usize = 4;
const _: () = assert!(COMMIT_CONNECTIONS as usize == 2 * (COMMITTERS_MAX + AWAITED_AT_ONCE));

/// What one request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestOutcome {
    /// Its outcome is committed.
    Settled {
        /// What a receipt will certify.
        receipt: Receipt,
        /// Whether an earlier request under the same key had it committed.
        replayed: bool,
    },
    /// It had no effect.
    Refused(Refusal),
}

impl Ledger {
    /// Opens a ledger with at most so many connections. A PostgreSQL need not be up yet; an SQLite file is made if there
    /// is none. Nothing is migrated.
    pub async fn connect(
        url: &LedgerUrl,
        password: Option<&Secret>,
        connections: u32,
    ) -> Result<Self, LedgerError> {
        Ok(Self { database: Database::open(url, password, connections).await?, committed: Arc::default() })
    }

    /// Brings the tables up to date; returns what had to be applied. Several agents may do so at once.
    pub async fn migrate(&self) -> Result<Vec<Applied>, LedgerError> {
        self.database.migrate().await
    }

    /// Asks the database for nothing, to see that it answers.
    pub async fn ping(&self) -> Result<(), LedgerError> {
        self.database.ping().await
    }

    /// Whether what is set for its connections is in force in them, and what they commit is durable.
    pub async fn connections(&self) -> Result<(), NotReady> {
        self.database.connections().await
    }

    /// Whether orders can be committed, in words: it answers, its tables are those that this build needs, and what it
    /// acknowledges is durable.
    pub async fn ready(&self) -> Result<(), NotReady> {
        self.database.ready().await
    }

    /// Whether its database has one writer at a time, so that a second committer would only wait for the first.
    pub fn has_one_writer(&self) -> bool {
        self.database.has_one_writer()
    }

    /// Commits a batch; how each request of it ended. A request that the database refuses is found, and refused alone. One that
    /// needs what somebody else holds is set apart, and the others do not wait for it; with `awaited`, the batch is that of
    /// the requests which wait for that, and begins once it is free or has been waited for long enough.
    pub async fn commit(&self, batch: &Batch, awaited: Option<&Awaited>) -> BatchEnd {
        // Boxed: the flow's state is too large to be moved about inside every caller's.
        let end = Box::pin(bisect::commit(&self.database, batch, awaited)).await;
        // Also where nothing is known to be in: it may be.
        self.committed.notify_one();
        end
    }

    /// How many files its connections take at most, of which so many are shared: an SQLite's have three each.
    pub fn files_max(connections: u32) -> usize {
        3 * usize::try_from(connections + COMMIT_CONNECTIONS).unwrap_or(usize::MAX)
    }

    /// Says on the connections of batches that whoever numbers the catalogue's changes is told of each commit by this process.
    pub(crate) fn notifies_sequencer(&self) {
        self.database.set_for(Sessions::Committer, TELLS_SEQUENCER);
    }

    /// Its connections, for the catalogue, which lies in the same database.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Told of each commit, for one listener.
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
    /// For who needs no more of a ledger than its connections.
    fn from(ledger: Arc<Ledger>) -> Self {
        ledger.database.clone()
    }
}

impl Committed {
    /// What it came to.
    pub fn answer(&self) -> &RequestOutcome {
        &self.answer
    }
}
