//! Files that are read again while an agent runs: certificates, keys. Unusable content never
//! replaces usable content.
//!
//! A disk may not answer. So the files are read on a thread of their own, one read at a time, and
//! no part of the agent waits for it. While the content on the disk is not in use,
//! [`ReloadedFiles::note`] says why for `/readyz`, and the metrics count it.

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

/// Interval of the checks for changes.
const POLL: Duration = Duration::from_secs(5);

/// Time after which the disk is reported as not answering. A check takes milliseconds.
const LATE_AFTER: Duration = Duration::from_secs(5);

/// Files of one kind, and how to read them.
pub trait Files: Send + Sync + 'static {
    /// Content of the files.
    type Content: Send + 'static;
    /// Reason why it cannot be used.
    type Error: Display;

    /// Kind of the files.
    const KIND: FilesReread;

    /// Returns stamps that show changes.
    fn stamps(&self) -> Vec<Stamp>;

    /// Reads and checks the files.
    ///
    /// # Errors
    ///
    /// Fails if the content must not be used.
    fn read(&self) -> Result<Self::Content, Self::Error>;
}

/// Stamp of a file; `None` if it cannot be read.
pub type Stamp = Option<FileStamp>;

/// Identity, length, and times of the last changes of content, owner and mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStamp {
    file: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Returns the current stamp of a file.
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
    /// Stamps at the first read.
    first: Vec<Stamp>,
    asked: Notify,
    standing: watch::Sender<FileState>,
    late_after: Duration,
}

/// State of the files.
#[derive(Debug, Default)]
struct FileState {
    /// Set while the disk does not answer.
    late: bool,
    /// Reason why the last content is not used.
    mistake: Option<String>,
}

/// Result of one check of the files.
struct ReadAttempt<C> {
    stamps: Vec<Stamp>,
    /// Set if they changed since the last check, or the check was requested.
    is_news: bool,
    /// The content; `None` if there was no reason to read.
    read: Option<Result<C, String>>,
}

impl<F: Files> ReloadedFiles<F> {
    /// Continues with files that were read and had these stamps before that.
    pub fn new(files: F, first: Vec<Stamp>) -> Self {
        let (files, standing) = (Arc::new(files), watch::Sender::default());
        Self { files, first, asked: Notify::new(), standing, late_after: LATE_AFTER }
    }

    /// Returns how they are read.
    pub fn files(&self) -> &F {
        &self.files
    }

    /// Makes [`Self::keep`] read the files now, changed or not.
    pub fn reload(&self) {
        self.asked.notify_one();
    }

    /// Returns why the content on the disk is not in use, as a sentence; `None` if it is.
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

    /// Reads the files after each change, and again while they are wrong. `take` puts the content
    /// into use or returns why it must not be used. It runs until it is dropped.
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

    /// Checks once, on a thread that may wait for the disk. There is never a second check at the
    /// same time.
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
    /// Returns the files' name for the beginning of a sentence.
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

    /// A disk that answers when the test says so.
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

    /// Waits until the note contains this text. `None` means that there is no note.
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
        // This runtime has one thread, and the read does not block it.
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
        // A pending read ends with the test.
        drop(answers);
    }
}
