//! Settings of the database's sessions, and notifications of other processes' commits, where the
//! database has them.

use super::pools::Database;
use super::postgres;

/// A group of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sessions {
    /// The sessions that commit batches of orders.
    Committer,
    /// All other sessions.
    Others,
}

/// Session variable: this process wakes the sequencer after each commit, so the triggers of
/// `0002_catalogue.sql` need not notify it.
pub(crate) const TELLS_SEQUENCER: (&str, &str) = ("bridge.tells_sequencer", "on");

impl Database {
    /// Sets a variable in sessions that begin from now on. SQLite has no session variables.
    pub(crate) fn set_for(&self, sessions: Sessions, variable: (&'static str, &'static str)) {
        match self {
            Self::Postgres(database) => {
                let pool = match sessions {
                    Sessions::Committer => &database.committer,
                    Sessions::Others => &database.pool,
                };
                pool.set_connect_options((*pool.connect_options()).clone().options([variable]));
            }
            Self::Sqlite(_) => {}
        }
    }

    /// True if the database notifies other processes of a commit.
    pub(crate) fn notifies(&self) -> bool {
        match self {
            Self::Postgres(_) => true,
            Self::Sqlite(_) => false,
        }
    }

    /// Calls `hear` for each notification on these channels, and does not return. After each
    /// reconnection it calls `hear` for every channel, because a notification may have been lost.
    pub(crate) async fn listen<const N: usize>(&self, channels: [&'static str; N], hear: impl Fn(&str)) {
        match self {
            Self::Postgres(database) => postgres::notify::listen(database, channels, hear).await,
            Self::Sqlite(_) => std::future::pending().await,
        }
    }
}
