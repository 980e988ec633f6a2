//! One round of the sequencer as one transaction, on whichever database.

use std::time::Duration;

use super::round::{ChangeLogLimits, Round};
use crate::database::{Database, KeptConnection, on_database};

/// What each database is asked in its own way. A round never waits behind orders for one of the pool's connections.
pub(super) trait Rounds {
    /// Numbers what is pending, if this agent holds the lease or can take it; with no time at all, gives it back.
    async fn round(&self, kept: &mut KeptConnection, agent: &str, lease: Duration) -> sqlx::Result<Round>;

    /// Wakes the agent that holds the lease, where that may be another process's and can be told.
    async fn tell(&self, kept: &mut KeptConnection) -> sqlx::Result<()>;

    /// Forgets some of the log's oldest changes; returns how many.
    async fn forget(&self, kept: &mut KeptConnection, limits: &ChangeLogLimits) -> sqlx::Result<u64>;
}

/// The rounds of one agent.
pub(super) struct Numbers {
    agent: String,
    database: Database,
    kept: KeptConnection,
}

impl Numbers {
    pub(super) fn new(database: Database, agent: String) -> Self {
        Self { agent, database, kept: KeptConnection::default() }
    }

    /// See [`Rounds::round`].
    pub(super) async fn round(&mut self, lease: Duration) -> sqlx::Result<Round> {
        on_database!(self.database, database => database.round(&mut self.kept, &self.agent, lease).await)
    }

    /// See [`Rounds::tell`].
    pub(super) async fn tell(&mut self) -> sqlx::Result<()> {
        on_database!(self.database, database => database.tell(&mut self.kept).await)
    }

    /// See [`Rounds::forget`].
    pub(super) async fn forget(&mut self, limits: &ChangeLogLimits) -> sqlx::Result<u64> {
        on_database!(self.database, database => database.forget(&mut self.kept, limits).await)
    }
}
