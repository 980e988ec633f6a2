//! Appends of one thread's tasks, put together.
//!
//! A task on another thread costs a system call to wake. So tasks that wait for the log on one thread go to it together and are
//! woken together: while a round of theirs becomes durable, the next one gathers, and nobody waits on a timer.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bridge_protocol::audit::{Entry, Event};
use tokio::sync::oneshot;

use super::entry_buffer::EntryBuffer;
use super::{AuditError, AuditLog, Logged, WITHOUT_AUDIT};

/// Where a task waits for its entry.
type Caller = oneshot::Sender<Result<(), AuditError>>;

/// What it waits for.
type Durable = oneshot::Receiver<Result<(), AuditError>>;

/// A thread's way to the log.
#[derive(Clone)]
pub struct Batcher {
    log: AuditLog,
    /// Locked for a few instructions, by this thread alone.
    gathered: Arc<Mutex<PendingBatch>>,
}

/// What has gathered; bounded by the tasks that wait.
#[derive(Default)]
struct PendingBatch {
    lines: EntryBuffer,
    /// Who waits for each of them.
    callers: Vec<Caller>,
    /// The last round's buffer, for the next one.
    spare: EntryBuffer,
    /// Whether a task takes what gathers.
    taken_care_of: bool,
}

impl Batcher {
    /// Nothing has gathered.
    pub fn new(log: AuditLog) -> Self {
        Self { log, gathered: Arc::default() }
    }

    /// Makes an entry durable. It has its place in the log when this returns, and is durable when that is waited for: so whoever
    /// waits need not keep the entry. A build that logs nothing does not make it.
    pub fn append<F: FnOnce() -> Entry>(
        &self,
        entry: F,
    ) -> impl Future<Output = Result<(), AuditError>> + Send + use<F> {
        let gathered = if WITHOUT_AUDIT { Ok(None) } else { self.gather(&entry()).map(Some) };
        async move {
            match gathered? {
                Some(durable) => durable.await.unwrap_or(Err(AuditError::Closed)),
                None => Ok(()),
            }
        }
    }

    /// As [`AuditLog::record`].
    pub fn record(&self, event: Event) {
        self.log.record(event);
    }

    /// Adds an entry to what gathers, and sees to it that somebody takes it; where it is told that it is durable.
    fn gather(&self, entry: &Entry) -> Result<Durable, AuditError> {
        let (caller, durable) = oneshot::channel();
        let gathered = &mut *self.lock();
        gathered.lines.push(entry)?;
        gathered.callers.push(caller);
        self.log.waiting.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut gathered.taken_care_of, true) {
            tokio::spawn(self.clone().rounds());
        }
        Ok(durable)
    }

    /// Takes whatever has gathered, round by round, until there is nothing.
    async fn rounds(self) {
        while let Some((lines, callers)) = self.take() {
            let Logged { end, entries } = self.log.append_lines(lines).await;
            self.log.waiting.fetch_sub(callers.len(), Ordering::Relaxed);
            for caller in callers {
                let _caller_gone = caller.send(end.clone().map(drop));
            }
            self.lock().spare = entries.emptied();
        }
    }

    fn take(&self) -> Option<(EntryBuffer, Vec<Caller>)> {
        let gathered = &mut *self.lock();
        gathered.taken_care_of = !gathered.callers.is_empty();
        if !gathered.taken_care_of {
            return None;
        }
        let next = std::mem::take(&mut gathered.spare);
        // About as many wait the next time.
        let callers = Vec::with_capacity(gathered.callers.len());
        Some((
            std::mem::replace(&mut gathered.lines, next),
            std::mem::replace(&mut gathered.callers, callers),
        ))
    }

    fn lock(&self) -> MutexGuard<'_, PendingBatch> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
