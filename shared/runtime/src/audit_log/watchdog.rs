//! Detection of a disk that does not answer. Callers of the log then get an answer all the same,
//! and no new entries are taken.
//!
//! A disk operation that does not return cannot be aborted: its thread is blocked until the disk
//! answers. So another thread watches it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Interval of the checks, unless the allowed time is shorter.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The watched thread's current operation.
#[derive(Debug)]
pub(super) struct Watchdog {
    epoch: Instant,
    /// Start of the operation in milliseconds since `epoch`, plus 1; 0 while there is none.
    since: AtomicU64,
}

impl Watchdog {
    /// Makes a watchdog without an operation.
    pub(super) fn new() -> Self {
        Self { epoch: Instant::now(), since: AtomicU64::new(0) }
    }

    /// Marks the start of an operation.
    pub(super) fn begin(&self) {
        self.since.store(self.now(), Ordering::Relaxed);
    }

    /// Marks the end of an operation.
    pub(super) fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    fn is_for_longer_than(&self, within: Duration) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since > 0 && u128::from(self.now() - since) > within.as_millis()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }
}

/// Watches a thread until it has ended, and reports if an operation takes too long. `tell` is
/// called on each change before the receivers see it.
pub(super) fn look_after(
    busy: &Arc<Watchdog>,
    within: Duration,
    tell: impl Fn(bool) + Send + 'static,
) -> io::Result<watch::Receiver<bool>> {
    let (late, seen) = watch::channel(false);
    let busy = Arc::downgrade(busy);
    std::thread::Builder::new()
        .name("audit-late".to_owned())
        .spawn(move || run(&busy, within, &late, &tell))?;
    Ok(seen)
}

fn run(busy: &Weak<Watchdog>, within: Duration, late: &watch::Sender<bool>, tell: &impl Fn(bool)) {
    while let Some(is_late) = busy.upgrade().map(|busy| busy.is_for_longer_than(within)) {
        if *late.borrow() != is_late {
            tell(is_late);
            late.send_replace(is_late);
        }
        std::thread::sleep(LOOK_EVERY.min(within / 4));
    }
}
