//! A COMMIT that PostgreSQL answers with a warning, and what is known of what it committed.
//!
//! While a standby is waited for (`synchronous_standby_names`), a cancelled wait does not fail the COMMIT: it is done on this server,
//! no standby is known to have it, and a warning is all that says so. After a failover it would be gone, so nobody may be told of
//! it yet. From such a warning on, whoever begins a transaction first has a standby confirm all that was committed before.
//!
//! The driver gives warnings to nobody but its log; so a COMMIT runs where its log is listened to.

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

/// Where the driver logs what the server says beside its answers.
const NOTICES: &str = "sqlx::postgres::notice";

/// Writes to the log of the server, so that its COMMIT waits for a standby as any other that writes.
const MARK: &str = "SELECT pg_logical_emit_message(true, 'bridge', 'confirmed')";

/// COMMITs of one ledger that came with a warning.
#[derive(Debug, Default)]
pub(super) struct CommitWarnings {
    seen: AtomicU64,
    /// So many of them were confirmed since.
    confirmed: AtomicU64,
}

impl CommitWarnings {
    /// Commits.
    ///
    /// # Errors
    /// Also when it was done with a warning: then nobody can tell whether it lasts.
    pub(super) async fn commit(&self, open: Open<sqlx::Postgres>) -> sqlx::Result<()> {
        match heard(open.commit()).await {
            (Ok(()), Some(warning)) => {
                self.seen.fetch_add(1, Ordering::SeqCst);
                tracing::warn!(
                    warning,
                    "PostgreSQL committed with a warning: nobody is told before that is confirmed"
                );
                Err(sqlx::Error::Io(io::Error::other("it was committed with a warning, and may not last")))
            }
            (ended, _) => ended,
        }
    }

    /// Has what was committed with a warning confirmed, if there is any. Waits as long as a COMMIT does.
    ///
    /// # Errors
    /// It is not confirmed: nothing that is read now may be told to anybody.
    pub(super) async fn confirm(&self, pool: &PgPool) -> sqlx::Result<()> {
        let seen = self.seen.load(Ordering::SeqCst);
        if self.confirmed.load(Ordering::SeqCst) >= seen {
            return Ok(());
        }
        let mut open = Open::begin(pool.acquire().await?, "BEGIN").await?;
        sqlx::query(MARK).execute(open.connection()).await?;
        self.commit(open).await?;
        self.confirmed.fetch_max(seen, Ordering::SeqCst);
        tracing::info!("what PostgreSQL committed with a warning is confirmed");
        Ok(())
    }
}

task_local! {
    /// The last warning that the server gave while this future ran.
    static WARNING: RefCell<Option<String>>;
}

/// One for all, since making one has every place in the program that logs asked again.
///
/// The second is never used. While a program has a single subscriber, a place that logs for the first
/// time asks only the thread that it is on; if nobody listens there, it is silent on all threads.
static LISTENERS: LazyLock<[Dispatch; 2]> = LazyLock::new(|| [(); 2].map(|()| Dispatch::new(Listener)));

/// Runs to the end what talks with the server; with the last warning that came meanwhile.
async fn heard<T>(talk: impl Future<Output = T>) -> (T, Option<String>) {
    WARNING
        .scope(RefCell::default(), async {
            let answer = talk.with_subscriber(LISTENERS[0].clone()).await;
            (answer, WARNING.with(RefCell::take))
        })
        .await
}

/// Hears the driver's log of warnings, and nothing else.
struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.is_span() && metadata.target() == NOTICES && *metadata.level() <= Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        // It is always within `heard`.
        let _outside = WARNING.try_with(|warning| warning.replace(Some(text.0)));
    }

    /// No span is enabled.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event's fields as text.
struct Text(String);

impl Visit for Text {
    fn record_str(&mut self, _: &Field, value: &str) {
        self.0.push_str(value);
    }

    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        let _infallible = write!(self.0, "{value:?}");
    }
}
