//! A connection that somebody keeps for themselves, so that they never wait behind orders for one of the pool's.

use sqlx::PgConnection;

/// A connection outside the pools, where the database has such. It is taken out for each statement: one that was not answered is
/// closed.
#[derive(Default)]
pub(crate) struct KeptConnection {
    pub(super) postgres: Option<PgConnection>,
}

impl KeptConnection {
    /// Keeps a connection whose statement was answered.
    pub(crate) fn keep(&mut self, connection: PgConnection) {
        self.postgres = Some(connection);
    }
}
