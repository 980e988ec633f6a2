//! What is set for the database's sessions, and what is heard of the commits of other processes, where it says something.

use super::pools::Database;
use super::postgres;

/// Whose sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sessions {
    /// Those of batches.
    Committer,
    /// Those of everybody else.
    Others,
}

/// Says of a session that its process tells the sequencer of each commit: the triggers of `0002_catalogue.sql` need not.
pub(crate) const TELLS_SEQUENCER: (&str, &str) = ("bridge.tells_sequencer", "on");

impl Database {
    /// Sets a variable in the sessions that begin from now on, where sessions have variables.
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

    /// Whether it tells other processes of a commit.
    pub(crate) fn notifies(&self) -> bool {
        match self {
            Self::Postgres(_) => true,
            Self::Sqlite(_) => false,
        }
    }

    /// Hears what is said on some channels, for ever. What may have been said while nobody listened is taken to have been said.
    pub(crate) async fn listen<const N: usize>(&self, channels: [&'static str; N], hear: impl Fn(&str)) {
        match self {
            Self::Postgres(database) => postgres::notify::listen(database, channels, hear).await,
            Self::Sqlite(_) => std::future::pending().await,
        }
    }
}
