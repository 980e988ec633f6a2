//! What serving threads are told of the replica: each in its own bounded queue, in one order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_protocol::domain::catalogue::Position;
use tokio::sync::mpsc;

use super::answer::PreparedRow;

/// Updates that a serving thread has not taken yet. When it is full, the feed waits.
const WAITING_MAX: usize = 64;

/// Something that a serving thread is to know.
#[derive(Debug, Clone)]
pub enum Update {
    /// Collect the next rows beside what is served.
    StartAnew,
    /// Rows, a page of the feed at most.
    Rows {
        /// The rows.
        rows: Arc<[PreparedRow]>,
        /// How far the replica is with them.
        position: Option<Position>,
        /// The collected rows take the place of those served.
        complete: bool,
    },
    /// What is served was equal to its source then.
    Fresh(Freshness),
}

/// When what is served was last known to equal its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// A moment of this process,
    pub at: Instant,
    /// and how long before that it was, for what came from the disk.
    pub before: Duration,
}

impl Freshness {
    /// A moment of this process.
    pub fn at(at: Instant) -> Self {
        Self { at, before: Duration::ZERO }
    }

    /// How long ago that is.
    pub fn age(self) -> Duration {
        self.at.elapsed().saturating_add(self.before)
    }
}

/// Reaches every serving thread.
#[derive(Debug)]
pub struct Broadcast(Vec<mpsc::Sender<Update>>);

impl Broadcast {
    /// To so many threads: the sender, and an inbox for each.
    pub fn to(threads: usize) -> (Self, Vec<mpsc::Receiver<Update>>) {
        let (senders, inboxes) = (0..threads).map(|_| mpsc::channel(WAITING_MAX)).unzip();
        (Self(senders), inboxes)
    }

    /// Tells all of them; waits for those that are behind. A thread that has ended needs nothing.
    pub async fn send(&self, update: Update) {
        for thread in &self.0 {
            let _ended = thread.send(update.clone()).await;
        }
    }
}
