//! COMMITs that PostgreSQL answers with a warning, and the later confirmation that they last.
//!
//! With synchronous replication (`synchronous_standby_names`), a COMMIT waits for a standby. If
//! that wait is cancelled, the COMMIT still succeeds on this server, and only a warning says that
//! no standby is known to have it. After a failover it would be lost, so no caller may hear of it
//! yet. After such a warning, each new transaction first has a standby confirm all earlier commits.
//!
//! The driver gives warnings only to its log. So a COMMIT runs with a subscriber that listens to
//! that log.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::postgres::PgPool;
use tokio::task_local;
use tracing::field::{Field, Visit};
use tracing::instrument::WithSubscriber as _;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

use crate::database::open::Open;

/// The log target for the server's notices in the driver.
const NOTICES: &str = "sqlx::postgres::notice";

/// Writes to the server's write-ahead log, so that its COMMIT waits for a standby like any commit
/// of data.
const MARK: &str = "SELECT pg_logical_emit_message(true, 'bridge', 'confirmed')";

/// COMMITs of one ledger that came with a warning.
#[derive(Debug, Default)]
pub(super) struct CommitWarnings {
    seen: AtomicU64,
    /// The number of these COMMITs that a standby has confirmed since.
    confirmed: AtomicU64,
}

impl CommitWarnings {
    /// Commits.
    ///
    /// # Errors
    ///
    /// Fails if the commit fails, or if it came with a warning: then its outcome is unknown.
    pub(super) async fn commit(&self, open: Open<sqlx::Postgres>) -> sqlx::Result<()> {
        match heard(open.commit()).await {
            (Ok(()), Some(warning)) => {
                self.seen.fetch_add(1, Ordering::SeqCst);
                tracing::warn!(
                    warning,
                    "PostgreSQL committed with a warning: no caller hears of it before a standby confirms it"
                );
                Err(sqlx::Error::Io(io::Error::other("it was committed with a warning, and may not last")))
            }
            (ended, _) => ended,
        }
    }

    /// Has earlier commits with a warning confirmed, if there are any. Waits as long as a COMMIT
    /// does.
    ///
    /// # Errors
    ///
    /// Fails if they are not confirmed. Then no caller may hear of any data that is read now.
    pub(super) async fn confirm(&self, pool: &PgPool) -> sqlx::Result<()> {
        let seen = self.seen.load(Ordering::SeqCst);
        if self.confirmed.load(Ordering::SeqCst) >= seen {
            return Ok(());
        }
        let mut open = Open::on(pool, "BEGIN").await?;
        sqlx::query(MARK).execute(open.connection()).await?;
        self.commit(open).await?;
        self.confirmed.fetch_max(seen, Ordering::SeqCst);
        tracing::info!("the commits with a warning of PostgreSQL are confirmed");
        Ok(())
    }
}

task_local! {
    /// The server's last warning while this future ran.
    static WARNING: RefCell<Option<String>>;
}

/// One subscriber for all commits, because each new one makes every log statement of the program
/// check its interest again.
///
/// The second is never used, but it must exist. With a single subscriber, a log statement that runs
/// for the first time asks only its own thread; if no subscriber listens there, it stays silent on
/// all threads.
static LISTENERS: LazyLock<[Dispatch; 2]> = LazyLock::new(|| [(); 2].map(|()| Dispatch::new(Listener)));

/// Runs a future to its end. Returns its result and the last warning of the server meanwhile.
async fn heard<T>(talk: impl Future<Output = T>) -> (T, Option<String>) {
    WARNING
        .scope(RefCell::default(), async {
            let answer = talk.with_subscriber(LISTENERS[0].clone()).await;
            (answer, WARNING.with(RefCell::take))
        })
        .await
}

/// Receives the driver's warnings, and no other log line.
struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.is_span() && metadata.target() == NOTICES && *metadata.level() <= Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        // The log line always comes within `heard`, so the task-local value exists.
        let _outside = WARNING.try_with(|warning| warning.replace(Some(text.0)));
    }

    /// Never called, because no span is enabled.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The fields of an event as text.
struct Text(String);

impl Visit for Text {
    fn record_str(&mut self, _: &Field, value: &str) {
        self.0.push_str(value);
    }

    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        let _infallible = write!(self.0, "{value:?}");
    }
}
