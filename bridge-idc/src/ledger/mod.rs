//! The ledger: where orders become durable. Brands, SKUs, stock, outcomes and orders in SQL.
//!
//! One flow (`commit`) over any database: read what the batch mentions under lock, let the pure planner decide, write,
//! commit. A database's own folder holds its SQL and nothing that decides. Beside this module only the catalogue names
//! sqlx, which publishes what lies in the same database.

/// The one flow that commits a batch.
mod commit;

/// Finds the request that the database refuses.
mod bisect;

/// What the flow asks of a database.
mod transaction;

/// PostgreSQL.
mod postgres;

/// SQLite, the embedded default.
mod sqlite;

/// Rows, between the domain's types and SQL's.
mod rows;

/// What can go wrong, by whose fault.
mod error;

/// Migrations, one list a database, in the binary.
mod migrate;

/// How an order stands, over any database.
mod look_up;

/// Questions outside any batch.
mod read;

/// What it has under each key, in their order.
pub mod by_key;

/// Which keys it was written with.
mod keys;

/// What is charged and given back.
pub mod payments;

/// Brands, SKUs and stock from a CSV file.
pub mod import;

/// A model of the ledger in plain maps, for tests.
pub mod memory;

/// A model of a database at READ COMMITTED, statement by statement, for the simulation.
pub mod model;

use std::sync::Arc;

use bridge_protocol::domain::UnixMicros;
use bridge_protocol::receipt::Receipt;
use bridge_protocol::wire::order::Refusal;
use bridge_runtime::config::Secret;
use sqlx::{PgPool, SqlitePool};
use tokio::sync::Notify;

use crate::config::LedgerUrl;
use crate::import_file::parts::Held;
use crate::planner::{Awaited, Request};

pub use error::{LedgerError, NotReady, SqlState};
pub(crate) use error::{held, missing_right};
pub use migrate::Applied;
pub(crate) use postgres::held as held_rows;
pub(crate) use postgres::session::make_durable;
pub(crate) use postgres::unprotected;
pub use read::{StockSum, Totals};
pub(crate) use transaction::Open;

/// A ledger in the database that its URL names.
pub struct Ledger {
    kind: Kind,
    /// Told of each commit, which may have moved stock: whoever numbers the catalogue's changes need not wait for more.
    committed: Arc<Notify>,
}

enum Kind {
    Postgres(postgres::Postgres),
    Sqlite(sqlite::Sqlite),
}

/// Runs the same expression on whichever database a ledger is in.
macro_rules! on_database {
    ($ledger:expr, $database:ident => $run:expr) => {
        match &$ledger.kind {
            $crate::ledger::Kind::Postgres($database) => $run,
            $crate::ledger::Kind::Sqlite($database) => $run,
        }
    };
}
use on_database;

/// A ledger's connections.
#[derive(Clone)]
pub(crate) enum Pools {
    /// PostgreSQL's.
    Postgres(PgPool),
    /// SQLite's: the one that writes, and those that read.
    Sqlite { writer: SqlitePool, readers: SqlitePool },
}

impl Pools {
    /// Who holds this, as far as the database tells.
    pub(crate) async fn holder(&self, held: &Held) -> Option<String> {
        match self {
            Self::Postgres(pool) => held_rows::holder(pool, held).await,
            Self::Sqlite { .. } => None,
        }
    }
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
    pub ends: Vec<End>,
    /// Why the database could not work, if it could not; whatever came before that is committed.
    pub outage: Option<LedgerError>,
}

/// What became of one request of a batch.
#[derive(Debug)]
pub enum End {
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
    answer: Answer,
}

/// Things that somebody else holds and that are waited for at a time, each on a connection of its own.
pub const AWAITED_AT_ONCE: usize = 4;

/// What one request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
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
        let kind = match url {
            LedgerUrl::Postgres(url) => Kind::Postgres(postgres::Postgres::open(url, password, connections)?),
            LedgerUrl::Sqlite(path) => Kind::Sqlite(sqlite::Sqlite::open(path, connections).await?),
        };
        Ok(Self { kind, committed: Arc::default() })
    }

    /// Commits a batch; how each request of it ended. A request that the database refuses is found, and refused alone. One that
    /// needs what somebody else holds is set apart, and the others do not wait for it; with `awaited`, the batch is that of
    /// the requests which wait for that, and begins once it is free or has been waited for long enough.
    pub async fn commit(&self, batch: &Batch, awaited: Option<&Awaited>) -> BatchEnd {
        // Boxed: the flow's state is too large to be moved about inside every caller's.
        let end = on_database!(self, database => Box::pin(bisect::commit(database, batch, awaited)).await);
        // Also where nothing is known to be in: it may be.
        self.committed.notify_one();
        end
    }

    /// How many files its connections take at most, of which so many are shared: an SQLite's have three each.
    pub fn files_max(connections: u32) -> usize {
        3 * usize::try_from(connections + postgres::COMMITTERS).unwrap_or(usize::MAX)
    }

    /// Says on the connections of batches that whoever numbers the catalogue's changes is told of each commit by this process.
    pub(crate) fn tells_sequencer(&self) {
        if let Kind::Postgres(database) = &self.kind {
            let pool = &database.committer;
            let told = (*pool.connect_options()).clone().options([("bridge.tells_sequencer", "on")]);
            pool.set_connect_options(told);
        }
    }

    /// Its connections, for the catalogue, which lies in the same database.
    pub(crate) fn pools(&self) -> Pools {
        match &self.kind {
            Kind::Postgres(database) => Pools::Postgres(database.pool.clone()),
            Kind::Sqlite(database) => {
                Pools::Sqlite { writer: database.writer.clone(), readers: database.pool.clone() }
            }
        }
    }

    /// Told of each commit, for one listener.
    pub(crate) fn committed(&self) -> Arc<Notify> {
        self.committed.clone()
    }
}

impl Committed {
    /// What it came to.
    pub fn answer(&self) -> &Answer {
        &self.answer
    }
}
