//! The audit log's files below `bridge_protocol::audit`. An entry is durable before anyone acts on
//! it.
//!
//! One thread owns the folder. It takes everything in the queue, writes it to the journal with one
//! fsync, and only then answers the callers. A second thread writes tiles, and a signed checkpoint
//! every second if there is something new. So neither waits for the other. After a crash the next
//! start continues from the journal.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bridge_protocol::audit::Event;
use bridge_protocol::audit::entry::{Entry, EntryError, Started, Stopped, Word};
use bridge_protocol::note::NoteVerifier;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use crate::beside::Beside;
use crate::clock;
use crate::config::AuditConfig;
use crate::owner::{self, User, WrongOwner};
use crate::telemetry::metrics::Metrics;

// Files that appear whole or not at all, and the lock.
mod disk;
pub use disk::Disk;

// Small files beside the key.
mod noted;

// Last known size of the log.
mod seen_checkpoint;
pub use seen_checkpoint::BehindSeen;
use seen_checkpoint::{Lateness, SeenCheckpoint};

// Check that the folder is still at its place.
mod opened_folder;
use opened_folder::OpenedFolder;

// The log's own key.
mod key;
pub use key::{KeyError, load as load_key};

// Reading the folder at the start.
mod recover;
pub use recover::RecoverError;

// Facts that are logged when they change.
mod last_logged;
pub use last_logged::LastLogged;

// Account that gives a command.
pub mod account;

// Entries of commands that run beside the agent.
mod command_socket;
pub use command_socket::{CommandSocket, CommandSocketError, append_for_command};

// The command line.
pub mod command;

// Buffer of entries for the thread.
mod entry_buffer;
use entry_buffer::EntryBuffer;

// Batches of one thread's appends.
mod batcher;
pub use batcher::Batcher;

// Detection of a disk that does not answer.
mod watchdog;
use watchdog::Watchdog;

// The thread that makes entries durable.
mod writer;

// The thread that writes tiles and checkpoints.
mod publisher;

/// Appends that the writer has not taken yet. Each part of the agent that appends has a bound of
/// its own. Further appends wait.
const QUEUE: usize = 1_024;

/// Set in a build that measures the cost of the log by leaving it out.
const WITHOUT_AUDIT: bool = cfg!(feature = "without-audit");

/// Makes the entry of a request. A build without the audit log does not make it, so that it saves
/// the whole cost.
pub fn entry_of(make: impl FnOnce() -> Entry) -> Option<Entry> {
    (!WITHOUT_AUDIT).then(make)
}

/// Pause between two attempts to record a past event.
const RECORD_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Longest wait at the end. Durable entries are in the journal, and the next start publishes them.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// Longest further wait for the note of the log's size beside its key. The next start catches up.
const NOTED_WITHIN: Duration = Duration::from_secs(5);

/// State of the log for other parts of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogState {
    /// Number of durable entries.
    pub size: u64,
    /// Number of entries under the last published checkpoint.
    pub published: u64,
    /// Reason why it cannot be written now; `None` while it can.
    pub obstacle: Option<String>,
    /// Reason why durable entries cannot be published now; `None` while they can.
    pub unpublished: Option<String>,
    /// True if the entries that wait for this use half of their memory. At its end no more are
    /// taken.
    pub is_filling: bool,
}

/// Reasons why an entry is not durable. The action that depends on it must not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// The disk is full or broken. The log recovers by itself.
    #[error("the audit log cannot be written: {0}")]
    Unwritable(String),
    /// The disk does not answer. The log recovers by itself, and may then have the entry.
    #[error("the audit log's disk does not answer")]
    Late,
    /// The log is closed.
    #[error("the audit log is closed")]
    Closed,
    /// The entry is invalid.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

/// Reasons why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Another process uses the folder.
    #[error("another process writes the audit log in {}: end it first, or give each agent its own audit.dir", .0.display())]
    Taken(PathBuf),
    /// The log belongs to another user.
    #[error(transparent)]
    NotOurs(#[from] WrongOwner),
    /// The checkpoint beside the key cannot be read, so an older folder would not be detected.
    #[error(
        "how far the audit log came cannot be read in {}, and without it an older copy of audit.dir would not be noticed: {cause}. \
         Nothing was changed. If the file belongs to another user, `chown {} {}`", path.display(), User::of_this_process(), path.display()
    )]
    Seen {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The log in the folder cannot be continued.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The folder cannot be used.
    #[error("the audit log's folder {}: {cause}", dir.display())]
    Io {
        /// Path of the folder.
        dir: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
}

/// Handle to append from any task. Clones reach the same log.
#[derive(Clone)]
pub struct AuditLog {
    appends: mpsc::Sender<Append>,
    standing: watch::Receiver<LogState>,
    /// Set while the disk does not answer.
    late: watch::Receiver<bool>,
    /// State of the note of the log's size beside its key.
    noted: Lateness,
    /// Entries of all threads that wait for the disk.
    waiting: Arc<AtomicUsize>,
    verifier: Arc<NoteVerifier>,
}

/// Ends the log in order.
pub struct Closer {
    close: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
    /// Thread that notes the log's size beside its key.
    noting: std::thread::JoinHandle<()>,
}

/// Entries of one caller, and the sender of its answer.
struct Append {
    entries: EntryBuffer,
    durable: oneshot::Sender<Logged>,
}

/// Result of an append. By default the log is closed.
struct Logged {
    /// Index of its first entry.
    end: Result<u64, AuditError>,
    /// The entries, so that their buffer is reused.
    entries: EntryBuffer,
}

impl Default for Logged {
    fn default() -> Self {
        Self { end: Err(AuditError::Closed), entries: EntryBuffer::default() }
    }
}

impl AuditLog {
    /// Opens the log, continues the one in its folder, and starts its threads.
    ///
    /// # Errors
    ///
    /// Fails if the key or the folder cannot be used or belongs to another user, if another process
    /// uses the folder, or if the log was damaged or put back.
    pub fn open(config: &AuditConfig, metrics: Arc<Metrics>) -> Result<(Self, Closer), OpenError> {
        check_owners(config)?;
        let signer = key::load_or_make(&config.key_file, &config.origin)?;
        if let Err(shares) = key::check_is_alone(&config.key_file) {
            tracing::warn!(%shares, "another agent may overwrite the files beside the key");
        }
        let verifier = Arc::new(signer.verifier().clone());
        let io = |cause| OpenError::Io { dir: config.dir.clone(), cause };
        let seen = SeenCheckpoint::beside(&config.key_file, &verifier)?;
        seen.check_is_there(&Disk::new(&config.dir)).map_err(RecoverError::from)?;
        let disk = Disk::make(&config.dir).map_err(io)?;
        let lock = disk.lock().map_err(io)?.ok_or_else(|| OpenError::Taken(config.dir.clone()))?;
        let recovered = recover::recover(&disk, &verifier, &seen)?;
        let (appends, queue) = mpsc::channel(QUEUE);
        let (close, closed) = oneshot::channel();
        let size = recovered.growing.size();
        let (standing, standing_seen) =
            watch::channel(LogState { size, published: recovered.published, ..LogState::default() });
        let busy = Arc::new(Watchdog::new());
        let within = config.write_within;
        let late =
            watchdog::look_after(&busy, within, hanging(within, standing_seen.clone(), metrics.clone()));
        let late = late.map_err(io)?;
        let home = OpenedFolder::of(&config.dir, disk.path(disk::LOCK), &lock).map_err(io)?;
        let (notes, noted, noting) =
            seen.keep_up(&disk, recovered.published, within, &metrics).map_err(io)?;
        let publisher = publisher::start(disk.clone(), home.clone(), notes).map_err(io)?;
        let writer = writer::Writer::new(
            disk,
            home,
            recovered,
            signer,
            publisher,
            writer::WriterIntervals { publish_every: config.publish_every, within },
            standing,
            metrics,
            busy,
            lock,
        )
        .map_err(io)?;
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(queue, closed))
            .map_err(io)?;
        let waiting = Arc::default();
        let log = Self { appends, standing: standing_seen, late, noted, waiting, verifier };
        Ok((log, Closer { close, thread, noting }))
    }

    /// Makes entries durable, in this order and next to each other. Returns the index of the first
    /// one. Callers get an answer even if the disk does not.
    ///
    /// # Errors
    ///
    /// Fails if the entries are not known to be durable.
    pub async fn append(&self, entries: &[Entry]) -> Result<u64, AuditError> {
        if WITHOUT_AUDIT {
            return Ok(0);
        }
        self.append_lines(EntryBuffer::of(entries)?).await.end
    }

    async fn append_lines(&self, entries: EntryBuffer) -> Logged {
        if self.is_late() {
            return Logged { end: Err(AuditError::Late), entries };
        }
        let mut late = self.late.clone();
        tokio::select! {
            biased;
            logged = self.append_however_late(entries) => logged,
            Ok(_) = late.wait_for(|late| *late) => {
                Logged { end: Err(AuditError::Late), entries: EntryBuffer::default() }
            }
        }
    }

    async fn append_however_late(&self, entries: EntryBuffer) -> Logged {
        let (durable, waits) = oneshot::channel();
        match self.appends.send(Append { entries, durable }).await {
            Ok(()) => waits.await.unwrap_or_default(),
            Err(mpsc::error::SendError(Append { entries, .. })) => Logged { entries, ..Logged::default() },
        }
    }

    /// Appends a past event that nobody waits for. If the log cannot be written, it is tried again.
    /// If the disk does not answer, it waits.
    pub fn record(&self, event: Event) {
        if WITHOUT_AUDIT {
            return;
        }
        let entry = Entry::new(clock::now(), event);
        let Ok(entries) = EntryBuffer::of(std::slice::from_ref(&entry)) else { return };
        let (durable, waits) = oneshot::channel();
        // It is queued without waiting, so that it stands before the next entry of the caller.
        let queued = self.appends.try_send(Append { entries, durable }).is_ok();
        let log = self.clone();
        tokio::spawn(async move {
            if queued && !matches!(waits.await, Ok(Logged { end: Err(AuditError::Unwritable(_)), .. })) {
                return;
            }
            while let Ok(lines) = EntryBuffer::of(std::slice::from_ref(&entry))
                && let Err(AuditError::Unwritable(_)) = log.append_however_late(lines).await.end
            {
                tokio::time::sleep(RECORD_AGAIN_AFTER).await;
            }
        });
    }

    /// Waits until the log takes no entries any more, because it was closed or its thread ended.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let appends = self.appends.clone();
        async move { appends.closed().await }
    }

    /// Returns the state of the log, with its changes.
    pub fn standing(&self) -> watch::Receiver<LogState> {
        self.standing.clone()
    }

    /// Returns true if it can be written now.
    pub fn is_writable(&self) -> bool {
        !self.is_late() && self.standing.borrow().obstacle.is_none()
    }

    fn is_late(&self) -> bool {
        *self.late.borrow()
    }

    /// Returns the number of entries that wait for the disk. They count against the limits of
    /// pending work.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Returns the current obstacle as a sentence: no request is taken, or soon none will be.
    pub fn obstacle(&self) -> Option<String> {
        let LogState { obstacle, unpublished, is_filling, .. } = &*self.standing.borrow();
        match (self.is_late(), obstacle, unpublished) {
            (true, ..) => {
                Some("the audit log's disk does not answer, and nothing is taken before it does".to_owned())
            }
            (_, Some(obstacle), _) => Some(format!(
                "the audit log cannot be written, and nothing is taken before it can: {obstacle}"
            )),
            (.., Some(why)) if *is_filling => Some(format!(
                "the audit log cannot be published, and soon nothing is taken before it can: {why}"
            )),
            _ => None,
        }
    }

    /// Returns the problems that stop no entry, each as a sentence.
    pub fn notes(&self) -> Vec<String> {
        let unpublished = self.standing.borrow().unpublished.clone();
        let unpublished = unpublished.filter(|_| self.obstacle().is_none()).map(|why| {
            format!(
                "the audit log cannot be published, and goes on without for some ten thousand entries: correct this before nothing is \
                 taken any more: {why}"
            )
        });
        unpublished.into_iter().chain(self.noted.note()).collect()
    }

    /// Returns true if it can be written and not published.
    pub fn is_unpublished(&self) -> bool {
        self.is_writable() && self.standing.borrow().unpublished.is_some()
    }

    /// Returns the state for `/status`.
    pub fn status(&self) -> Value {
        let (writable, obstacle) = (self.is_writable(), self.obstacle());
        let LogState { size, published, .. } = &*self.standing.borrow();
        json!({
            "origin": self.verifier.name(),
            "entries": size,
            "published": published,
            "noted": self.noted.note().is_none(),
            "writable": writable,
            "obstacle": obstacle,
        })
    }

    /// Returns the key that verifies its checkpoints.
    pub fn verifier(&self) -> &NoteVerifier {
        &self.verifier
    }
}

/// Refuses a log in which this process would leave files that the owner's agent cannot open.
fn check_owners(config: &AuditConfig) -> Result<(), WrongOwner> {
    let folders = ["", "journal", "tile"].map(|folder| config.dir.join(folder));
    folders.iter().try_for_each(|folder| owner::check(folder))?;
    if !config.key_file.exists() {
        owner::check(&config.key_file)?;
    }
    owner::check(&Beside::Seen.of(&config.key_file))
}

/// Checks for the `check` command that the log's key, if it exists, can be used and shares no files
/// with another key.
///
/// # Errors
///
/// Fails if the key cannot be used.
pub fn check(config: &AuditConfig) -> Result<(), KeyError> {
    key::check_is_alone(&config.key_file)?;
    if config.key_file.exists() { load_key(&config.key_file).map(drop) } else { Ok(()) }
}

/// Logs that the agent serves.
pub fn started(log: &AuditLog, name: &str, build: &str) {
    if WITHOUT_AUDIT {
        tracing::error!("this build has no audit log: it is only for measuring, and must not serve callers");
    }
    log.record(Event::AgentStarted(Started { build: Word::of(build), name: Word::of(name) }));
}

/// Logs that the agent ended in order, and closes the log.
pub async fn stopped(log: &AuditLog, closer: Closer) {
    let event = Event::AgentStopped(Stopped { reason: Word::of("signal") });
    if let Err(error) = log.append(&[Entry::new(clock::now(), event)]).await {
        tracing::warn!(%error, "log that the agent has ended in order");
    }
    if let Err(error) = closer.close().await {
        tracing::warn!(%error, "the log is left as it is, and the next start goes on from it");
    }
}

impl Closer {
    /// Makes queued entries durable, publishes them, notes the log's size beside the key, and ends
    /// the threads.
    ///
    /// # Errors
    ///
    /// Fails if the disk does not answer. The log stays as it is, its thread keeps waiting, and the
    /// next start continues from there.
    pub async fn close(self) -> Result<(), AuditError> {
        let Self { close, thread, noting } = self;
        drop(close);
        within(CLOSE_WITHIN, move || drop(thread.join())).await?;
        if within(NOTED_WITHIN, move || drop(noting.join())).await.is_err() {
            tracing::warn!(
                "the volume of the audit log's key does not answer: the next start notes the log's size"
            );
        }
        Ok(())
    }
}

/// Reports that the log's disk does not answer, or answers again.
fn hanging(
    within: Duration,
    standing: watch::Receiver<LogState>,
    metrics: Arc<Metrics>,
) -> impl Fn(bool) + Send + 'static {
    move |is_late| {
        let is_writable = !is_late && standing.borrow().obstacle.is_none();
        metrics.audit_writable.set(i64::from(is_writable));
        if is_late {
            tracing::error!(
                ?within,
                "the audit log's disk does not answer: nothing new is taken until it does"
            );
        } else {
            tracing::info!("the audit log's disk answers again");
        }
    }
}

/// Waits for a disk operation, for a limited time. The operation runs on a thread of its own: a
/// thread of the runtime would block the end of a command.
async fn within<T: Send + 'static>(
    within: Duration,
    asks_the_disk: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AuditError> {
    let (done, answered) = oneshot::channel();
    let asked = std::thread::Builder::new().name("audit-disk".to_owned()).spawn(move || {
        let _nobody_waits = done.send(asks_the_disk());
    });
    asked.map_err(|error| AuditError::Unwritable(error.to_string()))?;
    match tokio::time::timeout(within, answered).await {
        Ok(Ok(answer)) => Ok(answer),
        // It panicked or takes too long.
        Ok(Err(_)) | Err(_) => Err(AuditError::Late),
    }
}

#[cfg(test)]
mod tests;
