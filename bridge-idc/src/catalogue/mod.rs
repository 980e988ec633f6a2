//! The catalogue at its source: brands, categories, products and stock, in the ledger's database.
//!
//! ```text
//! a row changes ─> trigger notes its key ─> sequencer numbers it once committed ─> source reads its last state ─> feed
//! ```
//!
//! Its neighbours are the tables (`database/migrations/*/0002_catalogue.sql`), which notice every change, and the feed's publisher,
//! which asks [`Catalogue`] for rows. It reads only the columns on a list, and no table of the orders.

/// The columns that may leave, and the statements made of them.
pub mod columns;

/// Gives committed changes their numbers.
pub mod sequencer;

/// What a round of the sequencer is told, and what it comes to.
mod round;

/// One round as one transaction, on whichever database.
mod numbers;

/// Reads rows and changes for the feed.
mod source;

/// What reads alike in no two databases, on PostgreSQL.
mod postgres;

/// The same on SQLite.
mod sqlite;

/// From SQL's rows to the feed's.
mod rows;

/// The driver of the feed's publishers.
pub mod publish;

/// From a file into the tables.
pub mod import;

/// And back into a file.
pub mod export;

use std::sync::Arc;

use bridge_protocol::domain::catalogue::EntityKind;
use tokio::sync::Notify;

use self::columns::{Dialects as _, Select, selects};
use self::rows::Unreadable;
use crate::database::{Database, SqlState, missing_right, on_database, unavailable};
use crate::orders::store::Ledger;

/// The catalogue of a ledger's database. Clones share its connections with the ledger.
#[derive(Clone)]
pub struct Catalogue {
    database: Database,
    /// By the order of [`EntityKind::ALL`].
    selects: Arc<[Vec<Select>; EntityKind::ALL.len()]>,
    unreadable: Unreadable,
    /// Told of each commit of orders by this process.
    committed: Arc<Notify>,
}

/// Why the catalogue cannot be read or numbered; worth trying again later.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The database cannot be reached, went away, or refuses.
    #[error("{}", unavailable(.0))]
    Unavailable(#[source] sqlx::Error),
    /// The login has no right to what was asked for.
    #[error("the database does not do it: {0}")]
    Denied(SqlState),
}

impl From<sqlx::Error> for CatalogueError {
    fn from(error: sqlx::Error) -> Self {
        missing_right(&error).map_or(Self::Unavailable(error), Self::Denied)
    }
}

impl Catalogue {
    /// The catalogue that lies in a ledger's database.
    pub fn of(ledger: &Ledger) -> Self {
        let database = ledger.database().clone();
        let dialect = on_database!(database, database => database.dialect());
        let selects = Arc::new(EntityKind::ALL.map(|kind| selects(kind, dialect)));
        Self { database, selects, unreadable: Unreadable::default(), committed: ledger.committed() }
    }

    /// Rows that could not be read when they were last looked at, and are published as gone.
    pub fn unreadable(&self) -> usize {
        self.unreadable.count()
    }

    fn selects(&self, kind: EntityKind) -> &[Select] {
        // Kinds are numbered from 1, without a gap.
        &self.selects[usize::from(kind.number()) - 1]
    }
}
