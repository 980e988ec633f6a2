//! The catalogue at its source: brands, categories, products and stock in the ledger's database.
//!
//! ```text
//! a row changes ─> a trigger notes its key ─> the sequencer numbers it after the commit
//!                  ─> the source reads its last state ─> the feed
//! ```
//!
//! Triggers on the tables (`database/migrations/*/0002_catalogue.sql`) note the key of every
//! changed row. The feed's publisher reads rows through [`Catalogue`]. This module reads only the
//! columns of a fixed list, and no table of the orders.

/// The columns that may be published, and the SELECT statements built from them.
pub mod columns;

/// Gives numbers to committed changes.
pub mod sequencer;

/// Limits and result of one round of the sequencer.
mod round;

/// Runs one round of the sequencer as one transaction, on either database.
mod numbers;

/// Reads rows and changes for the feed.
mod source;

/// Statements of the catalogue for PostgreSQL.
mod postgres;

/// Statements of the catalogue for SQLite.
mod sqlite;

/// Converts rows of SQL to rows of the feed.
mod rows;

/// The driver of the feed's publishers.
pub mod publish;

/// Imports a file into the tables.
pub mod import;

/// Exports the tables to a file.
pub mod export;

use std::sync::Arc;

use bridge_protocol::domain::catalogue::EntityKind;
use tokio::sync::Notify;

use self::columns::{Dialects as _, Select, selects};
use self::rows::Unreadable;
use crate::database::{Database, SqlState, missing_right, on_database, unavailable};
use crate::orders::store::Ledger;

/// The catalogue in a ledger's database. Clones share the ledger's connections.
#[derive(Clone)]
pub struct Catalogue {
    database: Database,
    /// SELECT statements, in the order of [`EntityKind::ALL`].
    selects: Arc<[Vec<Select>; EntityKind::ALL.len()]>,
    unreadable: Unreadable,
    /// Notified when this process commits orders.
    committed: Arc<Notify>,
}

/// Reasons why the catalogue cannot be read or numbered. A later attempt may succeed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The database cannot be reached, lost the connection, or refused the statement.
    #[error("{}", unavailable(.0))]
    Unavailable(#[source] sqlx::Error),
    /// The login has no right to do this.
    #[error("the database refuses the statement: {0}")]
    Denied(SqlState),
}

impl From<sqlx::Error> for CatalogueError {
    fn from(error: sqlx::Error) -> Self {
        missing_right(&error).map_or(Self::Unavailable(error), Self::Denied)
    }
}

impl Catalogue {
    /// Returns the catalogue in a ledger's database.
    pub fn of(ledger: &Ledger) -> Self {
        let database = ledger.database().clone();
        let dialect = on_database!(database, database => database.dialect());
        let selects = Arc::new(EntityKind::ALL.map(|kind| selects(kind, dialect)));
        Self { database, selects, unreadable: Unreadable::default(), committed: ledger.committed() }
    }

    /// Returns the number of rows that could not be read at their last attempt. They are published
    /// as deleted.
    pub fn unreadable(&self) -> usize {
        self.unreadable.count()
    }

    fn selects(&self, kind: EntityKind) -> &[Select] {
        // Kinds are numbered from 1, without a gap.
        &self.selects[usize::from(kind.number()) - 1]
    }
}
