//! A connection outside the pools, for work that must not wait behind orders.

use sqlx::PgConnection;

/// A connection outside the pools, if the database needs one. Each statement takes it out and puts
/// it back after the answer, so a connection without an answer is closed.
#[derive(Default)]
pub(crate) struct KeptConnection {
    pub(super) postgres: Option<PgConnection>,
}

impl KeptConnection {
    /// Puts back a connection whose statement was answered.
    pub(crate) fn keep(&mut self, connection: PgConnection) {
        self.postgres = Some(connection);
    }
}
