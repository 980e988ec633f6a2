//! Gives committed changes their numbers: one agent at a time, by a lease in the database.
//!
//! A number is given only to what is committed, so every reader of the log sees the same changes in the same order,
//! whatever commits late. On PostgreSQL a change's NOTIFY wakes it, commits of this process do so directly, and polling
//! is the floor under both. Every agent runs it: the one that holds the lease numbers, the others follow how far it came.

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

/// How far the log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its last number.
    pub position: Position,
    /// Whatever was committed before this moment has a number up to `position`.
    pub swept: Instant,
}

/// A lease that is not renewed ends after this: so long nothing is numbered when its holder dies.
const LEASE: Duration = Duration::from_secs(3);

/// Between two looks at the log's oldest changes.
const FORGET_EVERY: Duration = Duration::from_secs(5);

/// The channels of 0002_catalogue.sql.
const PENDING: &str = "bridge_catalogue_pending";
const SEQUENCED: &str = "bridge_catalogue_sequenced";

/// How often to look.
struct PollIntervals {
    /// Without having been woken.
    poll_every: Duration,
    /// From the begin of a round that found something to the next one: under load more goes into a round instead.
    pause: Duration,
}

impl PollIntervals {
    fn of(database: &Database) -> Self {
        let (poll_every, pause) = if database.notifies() {
            (250, 10)
        } else {
            // Nothing wakes it when another process commits; and each round waits for the disk.
            (50, 25)
        };
        Self { poll_every: Duration::from_millis(poll_every), pause: Duration::from_millis(pause) }
    }
}

/// What the database said.
#[derive(Default)]
struct Notifications {
    pending: Notify,
    sequenced: Notify,
}

/// Why to look now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WakeReason {
    /// This process committed.
    Committed,
    /// Somebody else did, or time has passed.
    Other,
}

/// Numbers changes whenever this agent holds the lease, and tells `heads` how far the log has come, until the shutdown.
/// A database that is away is waited for.
pub async fn run(
    catalogue: Catalogue,
    limits: ChangeLogLimits,
    heads: watch::Sender<Option<Head>>,
    shutdown: Shutdown,
) {
    // From now on commits of this process need no NOTIFY, which would make them wait for each other.
    catalogue.database.set_for(Sessions::Others, TELLS_SEQUENCER);
    let heard = Notifications::default();
    let sequencer = Sequencer {
        // Nobody needs to know who it is, only that it is another one.
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
    /// Whether the lease was this agent's when last looked.
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
                // The holder numbers what is pending; the others hear from it when it has.
                () = heard.pending.notified(), if self.held => WakeReason::Other,
                () = heard.sequenced.notified(), if !self.held => WakeReason::Other,
                () = poll => WakeReason::Other,
            };
            if let Some(not_before) = not_before {
                sleep_until(not_before).await;
            }
        }
        // So that another agent need not wait for the lease's end.
        if self.held
            && let Err(error) = soon(self.numbers.round(Duration::ZERO)).await
        {
            tracing::debug!(%error, "the sequencer's lease is not given back, it ends by itself");
        }
    }

    /// Rounds until nothing is pending; returns before which moment the next one would be too soon.
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
                // An agent that cannot be told finds out by looking.
                if let Err(error) = soon(self.numbers.tell()).await {
                    tracing::debug!(%error, "the agent that holds the sequencer's lease is not told");
                }
            }
            if !round.held || round.emptied {
                return (round.numbered > 0).then(|| began + self.pace.pause);
            }
        }
    }

    fn publish(&self, began: Instant, round: &Round) {
        // Without the first sweep ever there is nothing to say yet.
        if let Some(swept) = began.checked_sub(round.lag) {
            self.heads.send_replace(Some(Head { position: round.position, swept }));
        }
    }

    async fn forget(&mut self) {
        loop {
            match soon(self.numbers.forget(&self.limits)).await {
                Ok(0) => break,
                Ok(changes) => tracing::debug!(changes, "the log of the catalogue forgot its oldest changes"),
                Err(error) => {
                    tracing::debug!(%error, "the log of the catalogue does not forget, trying again later");
                    break;
                }
            }
        }
        self.forget_at = Instant::now() + FORGET_EVERY;
    }
}
