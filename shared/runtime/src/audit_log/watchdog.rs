//! A disk that does not come back: whoever waits for the log is answered all the same, and nothing new is taken meanwhile.
//!
//! A call that the disk does not answer cannot be given up: the thread that made it is gone until it is answered. So another
//! thread looks after that one.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Between two looks, unless the time that is allowed is short itself.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a thread is about, for whoever looks after it.
#[derive(Debug)]
pub(super) struct Watchdog {
    epoch: Instant,
    /// When it began with what it is about, in milliseconds of `epoch` and one more; 0 while it waits for something to do.
    since: AtomicU64,
}

impl Watchdog {
    /// About nothing.
    pub(super) fn new() -> Self {
        Self { epoch: Instant::now(), since: AtomicU64::new(0) }
    }

    /// It begins with something.
    pub(super) fn begin(&self) {
        self.since.store(self.now(), Ordering::Relaxed);
    }

    /// It waits again.
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

/// Looks after a thread until that has ended, and tells whether it is about one thing for longer than it may be. `tell` hears of
/// each change before whoever waits for it does.
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
