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

/// Questions outside any batch.
mod read;

/// What is charged and given back.
pub mod payments;

/// Brands, SKUs and stock from a CSV file.
pub mod import;

/// A model of the ledger in plain maps, for the simulation.
pub mod memory;

use std::collections::HashMap;
use std::sync::Arc;

use bridge_protocol::domain::{KeyDigest, UnixMicros};
use bridge_protocol::receipt::Receipt;
use bridge_protocol::wire::order::Refusal;
use bridge_runtime::config::Secret;
use sqlx::{PgPool, SqlitePool};
use tokio::sync::Notify;

use crate::config::LedgerUrl;
use crate::planner::{Decision, Plan, Request};

pub use error::{LedgerError, NotReady, SqlState};
pub use migrate::Applied;
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

/// Requests to be committed in one transaction, and when they were put together.
#[derive(Debug, Clone)]
pub struct Batch {
    /// In the order in which they were admitted.
    pub requests: Vec<Request>,
    /// The IDC's clock.
    pub at: UnixMicros,
}

/// What a batch came to, durable. Only a commit makes one, and receipts are made only from one.
#[derive(Debug)]
pub struct Committed {
    answers: Vec<Answer>,
}

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

    /// Commits a batch: one answer a request, once all of them are durable. A request that the database refuses is
    /// found, and refused alone.
    ///
    /// After [`LedgerError::Unavailable`] part of the batch may be committed. Committing it again is safe: what is
    /// settled is replayed.
    pub async fn commit(&self, batch: &Batch) -> Result<Committed, LedgerError> {
        // Boxed: the flow's state is too large to be moved about inside every caller's.
        let committed = on_database!(self, database => Box::pin(bisect::commit(database, batch)).await);
        // Also after an error: part of the batch may be in.
        self.committed.notify_one();
        committed
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
    /// One answer a request, in the batch's order.
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// Answers from what was decided and the positions that the new outcomes were given. A key without one was settled
    /// by another writer meanwhile.
    fn new(
        requests: &[Request],
        at: UnixMicros,
        plan: &Plan,
        positions: &HashMap<KeyDigest, i64>,
    ) -> Result<Self, LedgerError> {
        let mut answers: Vec<Answer> = Vec::with_capacity(requests.len());
        for (request, decision) in requests.iter().zip(&plan.decisions) {
            let settled = |order, outcome, position, committed_at, replayed| {
                let (brand, key) = (request.brand.clone(), request.key);
                Answer::Settled {
                    receipt: Receipt { brand, key, order, outcome, position, committed_at },
                    replayed,
                }
            };
            answers.push(match decision {
                Decision::New { order, outcome, .. } => {
                    let position = *positions.get(&request.key).ok_or(LedgerError::Conflict)?;
                    settled(*order, outcome.clone(), position, at, false)
                }
                Decision::Replay(earlier) => settled(
                    earlier.order,
                    earlier.outcome.clone(),
                    earlier.position,
                    earlier.committed_at,
                    true,
                ),
                Decision::SameAs(earlier) => match &answers[*earlier] {
                    Answer::Settled { receipt, .. } => {
                        Answer::Settled { receipt: receipt.clone(), replayed: true }
                    }
                    refused @ Answer::Refused(_) => refused.clone(),
                },
                Decision::KeyReused => Answer::Refused(Refusal::KeyReused),
                Decision::NotFound => Answer::Refused(Refusal::NotFound),
                Decision::UnknownBrand => Answer::Refused(Refusal::UnknownBrand),
            });
        }
        Ok(Self { answers })
    }
}
