//! Updates of the replica for serving threads. Each thread has a bounded queue, and all get the
//! same order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_protocol::domain::Brand;
use bridge_protocol::domain::catalogue::Position;
use tokio::sync::mpsc;

use super::answer::PreparedRow;

/// Updates that a serving thread has not taken yet. If the queue is full, the feed waits.
const WAITING_MAX: usize = 64;

/// An update for a serving thread.
#[derive(Debug, Clone)]
pub enum Update {
    /// Collect the next rows beside the served ones.
    StartAnew {
        /// Brands that will have no rows, because their source was not reached since they were
        /// configured. Nothing can be said about them.
        lacking: Arc<BTreeSet<Brand>>,
    },
    /// Rows; at most a page of the feed.
    Rows {
        /// The rows.
        rows: Arc<[PreparedRow]>,
        /// Position of the replica with them.
        position: Option<Position>,
        /// Set if the collected rows must replace the served ones.
        complete: bool,
    },
    /// The served rows were equal to the source at that time.
    Fresh(Freshness),
}

/// Time when the served rows were last known to equal their source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// A moment of this process.
    pub at: Instant,
    /// Time before that moment, for rows that came from the disk.
    pub before: Duration,
}

impl Freshness {
    /// Makes the time of a moment of this process.
    pub fn at(at: Instant) -> Self {
        Self { at, before: Duration::ZERO }
    }

    /// Returns the time since then.
    pub fn age(self) -> Duration {
        self.at.elapsed().saturating_add(self.before)
    }
}

/// Reaches every serving thread.
#[derive(Debug)]
pub struct Broadcast(Vec<mpsc::Sender<Update>>);

impl Broadcast {
    /// Makes the sender for so many threads, and an inbox for each.
    pub fn to(threads: usize) -> (Self, Vec<mpsc::Receiver<Update>>) {
        let (senders, inboxes) = (0..threads).map(|_| mpsc::channel(WAITING_MAX)).unzip();
        (Self(senders), inboxes)
    }

    /// Sends an update to all threads and waits for slow ones. Threads that have ended are skipped.
    pub async fn send(&self, update: Update) {
        for thread in &self.0 {
            let _ended = thread.send(update.clone()).await;
        }
    }
}
