//! The driver of the feed's publishers. Each replica that follows the catalogue has one publisher,
//! on the feed lane of its link.
//!
//! Frames, positions of the log and results of reads are the publishers' inputs. Their outputs are
//! frames to send and reads to run. One task owns all publishers; reads run in tasks of their own
//! and return as inputs. This file makes no decision.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::domain::Brand;
use bridge_protocol::feed::Head;
use bridge_protocol::feed::publisher::{Output, Publisher, PublisherLimits, Read, ReadFailed, ReadResult};
use bridge_protocol::wire::feed::{ToPublisher, to_subscriber};
use bridge_protocol::wire::frame::{self, FEED_FRAME_BYTES_MAX};
use bridge_protocol::wire::lane::LinkId;
use bridge_runtime::tunnel::{FeedEvent, FeedSender};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::sequencer::Head as LogHead;
use super::{Catalogue, CatalogueError};
use crate::metrics::Metrics;

/// Most results of reads that wait for the owner. Each subscription has at most one.
const ANSWERS: usize = 64;

/// The publishers and their links.
pub struct FeedDriver {
    catalogue: Catalogue,
    limits: PublisherLimits,
    /// Limits the number of simultaneous reads of the database.
    reads: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    /// Start of the publishers' clock.
    started: Instant,
    subscriptions: HashMap<LinkId, Subscription>,
    answers: mpsc::Sender<ReadAnswer>,
    answered: mpsc::Receiver<ReadAnswer>,
}

struct Subscription {
    publisher: Publisher,
    sender: FeedSender,
}

struct ReadAnswer {
    link: LinkId,
    found: Result<ReadResult, ReadFailed>,
}

impl FeedDriver {
    /// Creates a driver without subscriptions.
    pub fn new(
        catalogue: Catalogue,
        limits: PublisherLimits,
        reads_max: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (answers, answered) = mpsc::channel(ANSWERS);
        Self {
            catalogue,
            limits,
            reads: Arc::new(Semaphore::new(reads_max)),
            metrics,
            started: Instant::now(),
            subscriptions: HashMap::new(),
            answers,
            answered,
        }
    }

    /// Publishes until the tunnel has ended. `heads` has the position of the log.
    pub async fn run(
        mut self,
        mut events: mpsc::Receiver<FeedEvent>,
        mut heads: watch::Receiver<Option<LogHead>>,
    ) {
        loop {
            let timeouts = self.subscriptions.values().filter_map(|one| one.publisher.next_timeout());
            // Without a timeout only events can wake the loop. One hour stands for "no timeout".
            let timeout = timeouts.min().unwrap_or(self.now() + Duration::from_secs(3_600));
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.handle_event(event, *heads.borrow()),
                    None => break,
                },
                Some(ReadAnswer { link, found }) = self.answered.recv() => {
                    let now = self.now();
                    if let Some(subscription) = self.subscriptions.get_mut(&link) {
                        subscription.publisher.handle_found(now, found);
                    }
                }
                Ok(()) = heads.changed() => {
                    let known = *heads.borrow_and_update();
                    self.handle_head(known);
                }
                () = sleep_until(self.started + timeout) => {
                    let now = self.now();
                    self.subscriptions.values_mut().for_each(|one| one.publisher.handle_timeout(now));
                }
            }
            self.do_outputs();
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn handle_event(&mut self, event: FeedEvent, known: Option<LogHead>) {
        let now = self.now();
        match event {
            FeedEvent::Up { link, sender, .. } => {
                let mut publisher = Publisher::new(self.limits);
                if let Some(head) = self.head(known) {
                    publisher.handle_head(now, head);
                }
                self.subscriptions.insert(link, Subscription { publisher, sender });
            }
            FeedEvent::Frame { link, payload } => {
                let Some(Subscription { publisher, sender }) = self.subscriptions.get_mut(&link) else {
                    return;
                };
                // The tunnel logs and counts the end of the link.
                match frame::decode::<ToPublisher>(payload) {
                    Ok(message) => {
                        if let Err(violation) = publisher.handle_message(now, message) {
                            sender.refuse(&violation);
                        }
                    }
                    Err(error) => sender.refuse(&error),
                }
            }
            FeedEvent::Down { link } => drop(self.subscriptions.remove(&link)),
        }
        let count = self.subscriptions.len();
        self.metrics.catalogue_subscribers.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    fn handle_head(&mut self, known: Option<LogHead>) {
        let (now, Some(head)) = (self.now(), self.head(known)) else { return };
        self.metrics.shared.catalogue_position.set(head.position.seq.cast_signed());
        self.subscriptions.values_mut().for_each(|one| one.publisher.handle_head(now, head));
    }

    /// Converts a position to the publishers' clock. `None` if the sweep was before the clock
    /// started.
    fn head(&self, known: Option<LogHead>) -> Option<Head> {
        let LogHead { position, swept } = known?;
        let swept_at = swept.checked_duration_since(self.started)?;
        Some(Head { position, swept_at })
    }

    fn do_outputs(&mut self) {
        for (link, Subscription { publisher, sender }) in &mut self.subscriptions {
            while let Some(output) = publisher.poll_output() {
                match output {
                    Output::Send(message) => {
                        if let Some(to_subscriber::Kind::Begin(begin)) = &message.kind {
                            tracing::info!(%link, bootstrap = begin.bootstrap, "a replica follows the catalogue");
                            self.metrics.shared.catalogue_bootstraps.inc_by(u64::from(begin.bootstrap));
                        }
                        match frame::to_bytes(&message, FEED_FRAME_BYTES_MAX) {
                            Ok(bytes) => {
                                let _down_follows = sender.send(&bytes);
                            }
                            Err(error) => tracing::error!(%error, "a page does not fit into a frame"),
                        }
                    }
                    Output::Read { brands, read } => {
                        let reading = Reading {
                            catalogue: self.catalogue.clone(),
                            reads: self.reads.clone(),
                            metrics: self.metrics.clone(),
                            answers: self.answers.clone(),
                        };
                        tokio::spawn(reading.run(*link, brands, read));
                    }
                    Output::TooLarge(key) => {
                        tracing::warn!(%key, "a row is too large to be published, and is published as deleted: make it smaller");
                    }
                }
            }
        }
    }
}

/// One read of the database, in a task of its own.
struct Reading {
    catalogue: Catalogue,
    reads: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    answers: mpsc::Sender<ReadAnswer>,
}

impl Reading {
    async fn run(self, link: LinkId, brands: Arc<[Brand]>, read: Read) {
        // The semaphore is never closed, so this cannot fail.
        let _place = self.reads.acquire().await;
        let found = self.read(&brands, read).await.map_err(|error| {
            self.metrics.catalogue_read_errors.inc();
            let error = anyhow::Error::from(error);
            tracing::warn!("read the catalogue for a replica: {error:#}");
            ReadFailed
        });
        let unreadable = i64::try_from(self.catalogue.unreadable()).unwrap_or(i64::MAX);
        self.metrics.catalogue_unreadable.set(unreadable);
        let _owner_gone = self.answers.send(ReadAnswer { link, found }).await;
    }

    async fn read(&self, brands: &[Brand], read: Read) -> Result<ReadResult, CatalogueError> {
        Ok(match read {
            Read::Page { after, rows_max } => {
                let (rows, last) = self.catalogue.page(brands, after.as_ref(), rows_max).await?;
                ReadResult::Page { rows, last }
            }
            Read::Changes { after, rows_max } => {
                match self.catalogue.changes(brands, after, rows_max).await? {
                    Some((rows, position)) => ReadResult::Changes { rows, position },
                    None => ReadResult::Lost,
                }
            }
            Read::Sums => {
                let (head, sums, unsettled) = self.catalogue.sums(brands).await?;
                ReadResult::Sums { head, sums, unsettled }
            }
        })
    }
}
