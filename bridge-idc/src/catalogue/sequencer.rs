//! Gives numbers to committed changes. A lease in the database allows one agent at a time to do so.
//!
//! Only a committed change gets a number. So every reader of the log sees the same changes in the
//! same order, even if a transaction commits late. On PostgreSQL a NOTIFY wakes the sequencer after
//! a change, and commits of this process wake it directly. It also polls, in case a notification is
//! lost. Every agent runs a sequencer: the holder of the lease gives numbers, and the others follow
//! the position.

use std::time::Duration;

use bridge_protocol::domain::catalogue::Position;
use bridge_runtime::shutdown::Shutdown;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::Catalogue;
use super::numbers::Numbers;
pub use super::round::ChangeLogLimits;
use super::round::Round;
use crate::database::{Database, Sessions, TELLS_SEQUENCER, soon};

/// The position of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last number.
    pub position: Position,
    /// Every change that was committed before this moment has a number up to `position`.
    pub swept: Instant,
}

/// Duration of a lease that is not renewed. If its holder dies, no change gets a number for this
/// long.
const LEASE: Duration = Duration::from_secs(3);

/// Interval between two deletions of the log's oldest changes.
const FORGET_EVERY: Duration = Duration::from_secs(5);

/// The NOTIFY channels of 0002_catalogue.sql.
const PENDING: &str = "bridge_catalogue_pending";
const SEQUENCED: &str = "bridge_catalogue_sequenced";

/// Intervals between rounds.
struct PollIntervals {
    /// Longest interval, if nothing wakes the sequencer.
    poll_every: Duration,
    /// Shortest interval after a round that numbered a change. Under load, each round then numbers
    /// more changes.
    pause: Duration,
}

impl PollIntervals {
    fn of(database: &Database) -> Self {
        let (poll_every, pause) = if database.notifies() {
            (250, 10)
        } else {
            // SQLite cannot notify this process of another process's commit, so the interval is
            // short. Each round waits for the disk, so the pause is long.
            (50, 25)
        };
        Self { poll_every: Duration::from_millis(poll_every), pause: Duration::from_millis(pause) }
    }
}

/// Notifications from the database.
#[derive(Default)]
struct Notifications {
    pending: Notify,
    sequenced: Notify,
}

/// Reasons to start a round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WakeReason {
    /// This process committed.
    Committed,
    /// Another process committed, or the poll interval has passed.
    Other,
}

/// Numbers changes while this agent holds the lease, and sends the log's position to `heads`, until
/// the shutdown. It waits for a database that is not available.
pub async fn run(
    catalogue: Catalogue,
    limits: ChangeLogLimits,
    heads: watch::Sender<Option<Head>>,
    shutdown: Shutdown,
) {
    // From now on, commits of this process wake the sequencer directly. They skip NOTIFY, which
    // would make them wait for each other.
    catalogue.database.set_for(Sessions::Others, TELLS_SEQUENCER);
    let heard = Notifications::default();
    let sequencer = Sequencer {
        // The name only has to differ from the names of other agents.
        numbers: Numbers::new(catalogue.database.clone(), format!("{:032x}", rand::random::<u128>())),
        catalogue: &catalogue,
        pace: PollIntervals::of(&catalogue.database),
        limits,
        heads,
        held: false,
        failing: false,
        forget_at: Instant::now(),
    };
    tokio::select! {
        () = sequencer.run(&heard, &shutdown) => {}
        () = catalogue.database.listen([PENDING, SEQUENCED], |channel| heard.hear(channel)) => {}
    }
}

impl Notifications {
    fn hear(&self, channel: &str) {
        match channel {
            PENDING => self.pending.notify_one(),
            _ => self.sequenced.notify_one(),
        }
    }
}

struct Sequencer<'a> {
    numbers: Numbers,
    catalogue: &'a Catalogue,
    pace: PollIntervals,
    limits: ChangeLogLimits,
    heads: watch::Sender<Option<Head>>,
    /// True if this agent held the lease in the last round.
    held: bool,
    failing: bool,
    forget_at: Instant,
}

impl Sequencer<'_> {
    async fn run(mut self, heard: &Notifications, shutdown: &Shutdown) {
        let mut wake = WakeReason::Other;
        loop {
            let not_before = self.sequence(wake).await;
            if self.held && Instant::now() >= self.forget_at {
                self.forget().await;
            }
            let poll = sleep(self.pace.poll_every);
            wake = tokio::select! {
                _deadline = shutdown.started() => break,
                () = self.catalogue.committed.notified() => WakeReason::Committed,
                // The holder of the lease numbers pending changes. The others wait for its
                // notification.
                () = heard.pending.notified(), if self.held => WakeReason::Other,
                () = heard.sequenced.notified(), if !self.held => WakeReason::Other,
                () = poll => WakeReason::Other,
            };
            if let Some(not_before) = not_before {
                sleep_until(not_before).await;
            }
        }
        // Give the lease back, so that another agent need not wait until it expires.
        if self.held
            && let Err(error) = soon(self.numbers.round(Duration::ZERO)).await
        {
            tracing::debug!(%error, "the sequencer's lease is not given back, and will expire");
        }
    }

    /// Runs rounds until no change is pending. Returns the earliest moment for the next round.
    async fn sequence(&mut self, wake: WakeReason) -> Option<Instant> {
        loop {
            let began = Instant::now();
            let round = match soon(self.numbers.round(LEASE)).await {
                Ok(round) => round,
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!(%error, "the catalogue's changes cannot be numbered, trying again");
                    }
                    return Some(began + self.pace.poll_every);
                }
            };
            if std::mem::replace(&mut self.failing, false) {
                tracing::info!("the catalogue's changes are numbered again");
            }
            if self.held != round.held {
                tracing::debug!(held = round.held, "the sequencer's lease changed hands");
            }
            self.held = round.held;
            self.publish(began, &round);
            if !round.held && wake == WakeReason::Committed {
                // If the notification fails, the other agent still polls.
                if let Err(error) = soon(self.numbers.tell()).await {
                    tracing::debug!(%error, "the agent that holds the sequencer's lease is not notified");
                }
            }
            if !round.held || round.emptied {
                return (round.numbered > 0).then(|| began + self.pace.pause);
            }
        }
    }

    fn publish(&self, began: Instant, round: &Round) {
        // Before the first sweep there is no position to publish.
        if let Some(swept) = began.checked_sub(round.lag) {
            self.heads.send_replace(Some(Head { position: round.position, swept }));
        }
    }

    async fn forget(&mut self) {
        loop {
            match soon(self.numbers.forget(&self.limits)).await {
                Ok(0) => break,
                Ok(changes) => {
                    tracing::debug!(changes, "the oldest changes of the catalogue's log are deleted")
                }
                Err(error) => {
                    tracing::debug!(%error, "the oldest changes of the catalogue's log cannot be deleted, trying again later");
                    break;
                }
            }
        }
        self.forget_at = Instant::now() + FORGET_EVERY;
    }
}
