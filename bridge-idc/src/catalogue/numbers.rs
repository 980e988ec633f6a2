//! One round of the sequencer as one transaction, on whichever database.

use std::time::Duration;

use super::round::{ChangeLogLimits, Round};
use super::{postgres, sqlite};
use crate::database::Database;

/// The statements of one agent.
pub(super) struct Numbers {
    agent: String,
    database: Database,
    own: postgres::Own,
}

impl Numbers {
    pub(super) fn new(database: Database, agent: String) -> Self {
        Self { agent, database, own: None }
    }

    /// Numbers what is pending, if this agent holds the lease or can take it; with no time at all, gives it back.
    pub(super) async fn round(&mut self, lease: Duration) -> sqlx::Result<Round> {
        match &self.database {
            Database::Postgres(database) => {
                postgres::round(database, &mut self.own, &self.agent, lease).await
            }
            Database::Sqlite(database) => sqlite::round(database, &self.agent, lease).await,
        }
    }

    /// Wakes the agent that holds the lease, where that may be another process's and can be told.
    pub(super) async fn tell(&mut self) -> sqlx::Result<()> {
        match &self.database {
            Database::Postgres(database) => postgres::tell(database, &mut self.own).await,
            Database::Sqlite(_) => Ok(()),
        }
    }

    /// Forgets some of the log's oldest changes; returns how many.
    pub(super) async fn forget(&mut self, limits: &ChangeLogLimits) -> sqlx::Result<u64> {
        match &self.database {
            Database::Postgres(database) => postgres::forget(database, &mut self.own, limits).await,
            Database::Sqlite(database) => sqlite::forget(database, limits).await,
        }
    }
}
