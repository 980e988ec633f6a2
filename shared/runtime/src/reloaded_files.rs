//! Files that are read again while an agent runs: certificates, keys. What cannot be used never replaces what can.
//!
//! A disk may not answer: the files are looked at on a thread of their own, one look at a time, and no part of the agent waits for
//! it. While what is on the disk is not in force, [`ReloadedFiles::note`] says why, for `/readyz`, and the metrics count it.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::telemetry::metrics::{FilesReread, Metrics};

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(5);

/// A look takes milliseconds: after this long the disk is said not to answer.
const LATE_AFTER: Duration = Duration::from_secs(5);

/// Files of one kind, and how they are read.
pub trait Files: Send + Sync + 'static {
    /// What is in them.
    type Content: Send + 'static;
    /// Why it cannot be used.
    type Error: Display;

    /// Which ones.
    const KIND: FilesReread;

    /// What tells that they have changed.
    fn stamps(&self) -> Vec<Stamp>;

    /// Reads and checks them.
    ///
    /// # Errors
    /// What is in them must not come into force.
    fn read(&self) -> Result<Self::Content, Self::Error>;
}

/// What tells that a file has changed; `None` while it cannot be looked at.
pub type Stamp = Option<FileStamp>;

/// Which file it is, how long, and when its content, its owner or its mode changed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStamp {
    file: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The stamp of a file as it is now.
pub fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some(FileStamp {
        file: (metadata.dev(), metadata.ino()),
        bytes: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

/// Files that an agent has read, and reads again when they change.
#[derive(Debug)]
pub struct ReloadedFiles<F> {
    files: Arc<F>,
    /// As they were when they were read first.
    first: Vec<Stamp>,
    asked: Notify,
    standing: watch::Sender<FileState>,
    late_after: Duration,
}

/// Whether what is on the disk is in force.
#[derive(Debug, Default)]
struct FileState {
    /// The disk does not answer.
    late: bool,
    /// Why what was read last is not used.
    mistake: Option<String>,
}

/// What one look at the files found.
struct ReadAttempt<C> {
    stamps: Vec<Stamp>,
    /// Something has changed since the last look, or somebody wants to know.
    is_news: bool,
    /// `None` if there was no reason to read.
    read: Option<Result<C, String>>,
}

impl<F: Files> ReloadedFiles<F> {
    /// Goes on from files that were read, and had these stamps before that.
    pub fn new(files: F, first: Vec<Stamp>) -> Self {
        let (files, standing) = (Arc::new(files), watch::Sender::default());
        Self { files, first, asked: Notify::new(), standing, late_after: LATE_AFTER }
    }

    /// How they are read.
    pub fn files(&self) -> &F {
        &self.files
    }

    /// Has [`Self::keep`] read the files now, changed or not.
    pub fn reload(&self) {
        self.asked.notify_one();
    }

    /// Why what is on the disk is not in force, as a sentence; `None` if it is.
    pub fn note(&self) -> Option<String> {
        let (standing, called) = (self.standing.borrow(), F::KIND.called());
        if standing.late {
            return Some(format!(
                "{called} cannot be read, the disk does not answer: the old ones stay in force"
            ));
        }
        let mistake = standing.mistake.as_ref()?;
        Some(format!("{called} cannot be used, the old ones stay in force: {mistake}"))
    }

    /// Reads the files whenever they change, and as long as they are wrong; `take` brings into force what is right, or says why
    /// it must not be. Runs until it is dropped.
    pub async fn keep<T: Future<Output = Result<(), String>>>(
        &self,
        metrics: &Metrics,
        mut take: impl FnMut(F::Content) -> T,
    ) {
        let mut known = self.first.clone();
        loop {
            let is_asked = timeout(POLL, self.asked.notified()).await.is_ok();
            let Some(look) = self.look(known.clone(), is_asked, metrics).await else { continue };
            known = look.stamps;
            let mistake = match look.read {
                None => continue,
                Some(Ok(content)) => take(content).await.err(),
                Some(Err(mistake)) => Some(mistake),
            };
            self.tell(metrics, |standing| standing.mistake = mistake);
            if let Some(note) = self.note().filter(|_| look.is_news) {
                tracing::warn!("{note}");
            }
        }
    }

    /// One look, on a thread that may wait for the disk. There is never a second one beside it.
    async fn look(
        &self,
        known: Vec<Stamp>,
        is_asked: bool,
        metrics: &Metrics,
    ) -> Option<ReadAttempt<F::Content>> {
        let is_wrong = self.standing.borrow().mistake.is_some();
        let files = self.files.clone();
        let mut look = spawn_blocking(move || {
            let stamps = files.stamps();
            let is_news = is_asked || stamps != known;
            let read = (is_news || is_wrong).then(|| files.read().map_err(|error| error.to_string()));
            ReadAttempt { stamps, is_news, read }
        });
        if let Ok(look) = timeout(self.late_after, &mut look).await {
            return look.ok();
        }
        self.tell(metrics, |standing| standing.late = true);
        tracing::warn!("{}", self.note().unwrap_or_default());
        let look = look.await;
        self.tell(metrics, |standing| standing.late = false);
        tracing::info!("{}: the disk answers again", F::KIND.called());
        look.ok()
    }

    fn tell(&self, metrics: &Metrics, change: impl FnOnce(&mut FileState)) {
        self.standing.send_modify(change);
        metrics.files_not_in_force.of(F::KIND).set(i64::from(self.note().is_some()));
    }
}

impl FilesReread {
    /// As the beginning of a sentence.
    fn called(self) -> &'static str {
        match self {
            Self::Certificates => "the certificate files",
            Self::Keys => "the keys in the keys' folder",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use tokio::time::sleep;

    use super::*;

    /// A disk that answers when the test says so, and with what.
    struct Disk(Mutex<Receiver<Result<u8, &'static str>>>);

    impl Files for Disk {
        type Content = u8;
        type Error = &'static str;
        const KIND: FilesReread = FilesReread::Keys;

        fn stamps(&self) -> Vec<Stamp> {
            Vec::new()
        }

        fn read(&self) -> Result<u8, &'static str> {
            self.0.lock().unwrap().recv().unwrap()
        }
    }

    fn disk() -> (Arc<ReloadedFiles<Disk>>, Sender<Result<u8, &'static str>>) {
        let (answers, answered) = channel();
        let mut reread = ReloadedFiles::new(Disk(Mutex::new(answered)), Vec::new());
        reread.late_after = Duration::from_millis(10);
        (Arc::new(reread), answers)
    }

    /// Waits until the note has this in it; `None` for no note.
    async fn noted(reread: &ReloadedFiles<Disk>, wanted: Option<&str>) {
        let is_so = || match (reread.note(), wanted) {
            (Some(note), Some(wanted)) => note.contains(wanted),
            (note, wanted) => note.is_none() && wanted.is_none(),
        };
        while !is_so() {
            sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn a_disk_that_does_not_answer_is_noted_and_keeps_nobody_waiting() {
        let (reread, answers) = disk();
        let (metrics, taken) = (Arc::new(Metrics::default()), Arc::new(Mutex::new(Vec::new())));
        let gauge = || metrics.files_not_in_force.of(FilesReread::Keys).get();
        let keeping = {
            let (reread, metrics, taken) = (reread.clone(), metrics.clone(), taken.clone());
            let take = move |content| {
                taken.lock().unwrap().push(content);
                ready(Ok(()))
            };
            tokio::spawn(async move { reread.keep(&metrics, take).await })
        };
        reread.reload();
        // This runtime has one thread, and it still runs.
        noted(&reread, Some("the disk does not answer")).await;
        assert_eq!(gauge(), 1);
        answers.send(Err("half a file")).unwrap();
        noted(&reread, Some("half a file")).await;
        assert_eq!((gauge(), taken.lock().unwrap().len()), (1, 0));
        reread.reload();
        answers.send(Ok(7)).unwrap();
        noted(&reread, None).await;
        assert_eq!((gauge(), taken.lock().unwrap().as_slice()), (0, &[7][..]));
        keeping.abort();
        // A look that is still under way ends with the test.
        drop(answers);
    }
}
