//! The task that owns the replica: follows the feed, applies its pages, updates every serving
//! thread, and writes snapshots.
//!
//! Frames and timers are inputs of the sans-IO `Subscriber`; its outputs are sent, applied or
//! reported. No other code touches the rows, so nothing is locked. If the serving threads cannot
//! keep up, the feed waits for them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::domain::catalogue::Position;
use bridge_protocol::domain::{Brand, Currency};
use bridge_protocol::feed::subscriber::{Output, Subscriber};
use bridge_protocol::wire::feed::ToSubscriber;
use bridge_protocol::wire::frame::{self, FEED_FRAME_BYTES_MAX};
use bridge_protocol::wire::lane::LinkId;
use bridge_runtime::clock;
use bridge_runtime::tunnel::{FeedEvent, FeedSender};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::replica_rows::ReplicaRows;
use super::snapshot;
use super::update::{Broadcast, Freshness, Update};
use crate::metrics::Metrics;

/// Longest time for the last snapshot.
const LAST_SNAPSHOT_WITHIN: Duration = Duration::from_secs(10);

/// Interval at which the age of the replica is written to the metrics.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// State of the replica for other parts of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicaState {
    /// Its position; `None` while it has nothing to serve.
    pub position: Option<Position>,
    /// Time when it was last known to equal its source.
    pub fresh: Option<Freshness>,
    /// Rows that it serves.
    pub rows: usize,
    /// Set during a bootstrap.
    pub bootstrapping: bool,
    /// Currency of each brand in its source.
    pub currencies: BTreeMap<Brand, Currency>,
}

/// Path and interval of snapshots.
#[derive(Debug, Clone)]
pub struct Snapshots {
    /// The file.
    pub path: PathBuf,
    /// Pause between two snapshots. None is written while nothing changes.
    pub every: Duration,
}

/// The owner of the replica.
pub struct Follower {
    subscriber: Subscriber,
    master: ReplicaRows,
    readers: Broadcast,
    snapshots: Snapshots,
    metrics: Arc<Metrics>,
    standing: watch::Sender<ReplicaState>,
    links: HashMap<LinkId, FeedSender>,
    /// Start of the subscriber's clock.
    started: Instant,
    snapshot_due: Instant,
    /// Position of the last snapshot, which may still be on its way to the disk.
    snapshot_of: Option<Position>,
    /// The snapshot that is being written. Its result is true on success.
    writing: Option<JoinHandle<bool>>,
}

impl Follower {
    /// Makes an owner of these rows, which the serving threads already have.
    pub fn new(
        subscriber: Subscriber,
        master: ReplicaRows,
        readers: Broadcast,
        snapshots: Snapshots,
        metrics: Arc<Metrics>,
        standing: watch::Sender<ReplicaState>,
    ) -> Self {
        let now = Instant::now();
        Self {
            snapshot_due: now + snapshots.every,
            snapshot_of: master.position(),
            subscriber,
            master,
            readers,
            snapshots,
            metrics,
            standing,
            links: HashMap::new(),
            started: now,
            writing: None,
        }
    }

    /// Follows until the tunnel has ended, then writes a last snapshot.
    pub async fn run(mut self, mut events: mpsc::Receiver<FeedEvent>) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            // If no timer runs, only events matter. An hour stands for that.
            let timeout = self.subscriber.next_timeout().unwrap_or(self.now() + Duration::from_secs(3_600));
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.handle_event(event),
                    None => break,
                },
                () = sleep_until(self.started + timeout) => {
                    let now = self.now();
                    self.subscriber.handle_timeout(now);
                }
                _ = look.tick() => self.look().await,
            }
            self.do_outputs().await;
        }
        // A disk that does not answer must not keep the process alive.
        let last = async {
            self.write_snapshot().await;
            if let Some(writing) = self.writing.take() {
                let _said_there = writing.await;
            }
        };
        if timeout(LAST_SNAPSHOT_WITHIN, last).await.is_err() {
            tracing::warn!(
                "the catalogue's last snapshot is not written in time: the next start will be slower"
            );
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn handle_event(&mut self, event: FeedEvent) {
        let now = self.now();
        match event {
            FeedEvent::Up { link, sender, .. } => {
                self.links.insert(link, sender);
                self.subscriber.handle_link_up(now, link);
            }
            FeedEvent::Frame { link, payload } => {
                // The end of the link is logged and counted elsewhere.
                let refused = match frame::decode::<ToSubscriber>(payload) {
                    Ok(message) => {
                        self.subscriber.handle_message(now, link, message).err().map(|why| why.to_string())
                    }
                    Err(error) => Some(error.to_string()),
                };
                if let (Some(why), Some(sender)) = (refused, self.links.get(&link)) {
                    sender.refuse(&why);
                }
            }
            FeedEvent::Down { link } => {
                self.links.remove(&link);
                self.subscriber.handle_link_down(now, link);
            }
        }
    }

    async fn do_outputs(&mut self) {
        while let Some(output) = self.subscriber.poll_output() {
            match output {
                Output::Send { link, message } => {
                    let Some(sender) = self.links.get(&link) else { continue };
                    match frame::to_bytes(&message, FEED_FRAME_BYTES_MAX) {
                        Ok(bytes) => {
                            let _down_follows = sender.send(&bytes);
                        }
                        Err(error) => tracing::error!(%error, "a subscription does not fit into a frame"),
                    }
                }
                Output::StartAnew => {
                    tracing::info!(
                        "the catalogue is replicated from its beginning; what is here is served meanwhile"
                    );
                    self.metrics.shared.catalogue_bootstraps.inc();
                    let update = self.master.start_anew();
                    self.readers.send(update).await;
                    self.standing.send_modify(|standing| standing.bootstrapping = true);
                }
                Output::Apply { page, rows, position, complete } => {
                    let update = self.master.apply(rows, position, complete);
                    self.readers.send(update).await;
                    let now = self.now();
                    self.subscriber.handle_applied(now, page);
                    self.applied(complete);
                }
                Output::Fresh { at } => {
                    let fresh = Freshness::at((self.started + at).into_std());
                    self.readers.send(Update::Fresh(fresh)).await;
                    self.standing.send_modify(|standing| standing.fresh = Some(fresh));
                }
                Output::OwnSums => {
                    let now = self.now();
                    self.subscriber.handle_own_sums(now, self.master.sums());
                }
                Output::Drifted { buckets } => {
                    self.metrics.catalogue_drifted.inc_by(buckets.len() as u64);
                    tracing::error!(
                        buckets = buckets.len(),
                        "the replica is not equal to its source, and is replicated again: please report this"
                    );
                }
            }
        }
    }

    fn applied(&mut self, complete: bool) {
        let (position, rows) = (self.master.position(), self.master.rows());
        if complete {
            tracing::info!(rows, position = position.map(|at| at.seq), "the catalogue is replicated");
        }
        let currencies = self.master.currencies();
        self.standing.send_modify(|standing| {
            standing.position = position;
            standing.currencies = currencies;
            standing.rows = rows;
            standing.bootstrapping &= !complete;
        });
        let seq = position.map_or(0, |position| position.seq.cast_signed());
        self.metrics.shared.catalogue_position.set(seq);
        self.metrics.catalogue_rows.set(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    /// Updates the age and writes a snapshot if one is due; called once a second.
    async fn look(&mut self) {
        if let Some(fresh) = self.standing.borrow().fresh {
            self.metrics.catalogue_age_seconds.set(fresh.age().as_secs().cast_signed());
        }
        if self.writing.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(writing) = self.writing.take()
            && !matches!(writing.await, Ok(true))
        {
            self.snapshot_of = None;
        }
        let is_written = self.writing.is_none();
        if is_written && Instant::now() >= self.snapshot_due && self.master.position() != self.snapshot_of {
            self.write_snapshot().await;
        }
    }

    /// Begins to write a snapshot. The writer shares the rows and copies none.
    async fn write_snapshot(&mut self) {
        let Some(image) = self.master.image(self.fresh_micros()) else { return };
        if let Some(before) = self.writing.take() {
            let _said_there = before.await;
        }
        self.snapshot_of = self.master.position();
        self.snapshot_due = Instant::now() + self.snapshots.every;
        let path = self.snapshots.path.clone();
        let metrics = self.metrics.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let written = snapshot::write(&path, &image);
            if let Err(error) = &written {
                metrics.catalogue_snapshot_errors.inc();
                tracing::warn!(%error, path = %path.display(), "write the catalogue's snapshot: it is tried again, and until then a start is slower");
            }
            written.is_ok()
        }));
    }

    /// Returns the time when the rows were last known to equal their source, by the wall clock.
    fn fresh_micros(&self) -> i64 {
        let age = self.standing.borrow().fresh.map_or(Duration::MAX, Freshness::age);
        clock::now().get().saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX))
    }
}
