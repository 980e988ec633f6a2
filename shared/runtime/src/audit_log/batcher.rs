//! Batches the appends of one thread's tasks.
//!
//! Waking a task on another thread costs a system call. So the tasks of one thread send their
//! entries to the log together and are woken together. While one round becomes durable, the next
//! one collects. Nobody waits on a timer.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bridge_protocol::audit::{Entry, Event};
use tokio::sync::oneshot;

use super::entry_buffer::EntryBuffer;
use super::{AuditError, AuditLog, Logged, WITHOUT_AUDIT};

/// Sender of the result to a waiting task.
type Caller = oneshot::Sender<Result<(), AuditError>>;

/// Receiver of the result for a waiting task.
type Durable = oneshot::Receiver<Result<(), AuditError>>;

/// Access of one thread's tasks to the log.
#[derive(Clone)]
pub struct Batcher {
    log: AuditLog,
    /// Locked for a few instructions, by this thread only.
    gathered: Arc<Mutex<PendingBatch>>,
}

/// Entries that are not sent to the log yet. The number of waiting tasks bounds it.
#[derive(Default)]
struct PendingBatch {
    lines: EntryBuffer,
    /// Waiting tasks, one for each entry.
    callers: Vec<Caller>,
    /// Buffer of the last round, reused for the next one.
    spare: EntryBuffer,
    /// Set while a task sends the collected entries.
    taken_care_of: bool,
}

impl Batcher {
    /// Makes a batcher without entries.
    pub fn new(log: AuditLog) -> Self {
        Self { log, gathered: Arc::default() }
    }

    /// Reserves a position in the log now. The returned future resolves after the entry is durable.
    ///
    /// The caller need not keep the entry while it waits. A build without the audit log does not
    /// make the entry.
    ///
    /// # Errors
    ///
    /// Fails if the entry is not known to be durable.
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

    /// Does the same as [`AuditLog::record`].
    pub fn record(&self, event: Event) {
        self.log.record(event);
    }

    /// Adds an entry to the batch and makes sure that a task sends it. Returns the receiver of the
    /// result.
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

    /// Sends batches round by round until none is left.
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
        // The next batch will have about as many callers.
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
