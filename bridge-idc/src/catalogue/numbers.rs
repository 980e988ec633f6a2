//! Runs one round of the sequencer as one transaction, on either database.

use std::time::Duration;

use super::round::{ChangeLogLimits, Round};
use crate::database::{Database, KeptConnection, on_database};

/// The parts of a round that differ between the databases. A round uses its own connection, so it
/// never waits in the pool behind orders.
pub(super) trait Rounds {
    /// Numbers the pending changes, if this agent holds the lease or can take it. A lease of zero
    /// gives the lease back.
    async fn round(&self, kept: &mut KeptConnection, agent: &str, lease: Duration) -> sqlx::Result<Round>;

    /// Wakes the agent that holds the lease, if the database can notify another process.
    async fn tell(&self, kept: &mut KeptConnection) -> sqlx::Result<()>;

    /// Deletes some of the oldest changes of the log. Returns the number of deleted changes.
    async fn forget(&self, kept: &mut KeptConnection, limits: &ChangeLogLimits) -> sqlx::Result<u64>;
}

/// Runs the rounds of one agent.
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
